"""The one way to servers, for judges and ``remote``: proxies and certificates, waits and ends."""

from __future__ import annotations

import datetime
import importlib.util
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.rewards.chat_server import ChatServer, Handler, chat_server, judge, walls
from tests.rewards.rendering import prompts
from tests.rewards.reward_server import Answer, good, serving

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards import remote
from ddrl.rewards.http.proxy import find_proxy
from ddrl.rewards.remote import RemoteReward

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
MEDIA = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = Prompts(torch.arange(2), ("a", "b"), ({}, {}))


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(remote, "PAUSE", 0.0)


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "127.8.0.1", "[::1]", "0.0.0.0", "judge.localhost"],
)
@pytest.mark.parametrize("proxy", ["http://proxy:1", "socks5://proxy:1", "nonsense://proxy"])
def test_loopback_is_asked_directly(host: str, proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    assert find_proxy(f"http://{host}:8000/v1") is None
    assert find_proxy(f"https://{host}/v1") is None


@pytest.mark.parametrize(
    ("url", "exceptions", "variable"),
    [
        ("http://gpu1:8000/v1", "", "http_proxy"),
        ("https://api.com/v1", "", "all_proxy"),
        ("http://gpu1:8000/v1", "gpu1", None),
        ("http://gpu1:8000/v1", "gpu1:8000", None),
        ("http://a.corp.com/v1", "corp.com", None),
        ("http://acorp.com/v1", "corp.com", "http_proxy"),
        ("http://gpu1/v1", "*", None),
        ("http://10.1.2.3/v1", "10.0.0.0/8", None),
        ("http://11.1.2.3/v1", "10.0.0.0/8", "http_proxy"),
        ("http://[fd00::1]/v1", "a, fd00::/8", None),
    ],
)
def test_which_proxy(
    url: str, exceptions: str, variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5h://proxy:1080")
    monkeypatch.setenv("no_proxy", exceptions)
    found = find_proxy(url)
    assert (found and found.variable) == variable
    if found and variable == "http_proxy":
        assert found.url == "http://proxy:3128"


@pytest.mark.parametrize("name", ["remote", "judge"])
@pytest.mark.parametrize(
    ("proxy", "phrase", "hint"),
    [
        ("socks4://me:hunter2@proxy:1", "http_proxy can't be used for gpu1", "no_proxy"),
        ("ftp://proxy", "begins with http://, https://, socks5://", "correct http_proxy"),
        ("http://me:hunter2@:port", "can't be used for gpu1", "no_proxy"),
        ("socks5://me:hunter2@proxy:1", "needs the package socksio", "pip install 'ddrl"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_sentence(
    name: str, proxy: str, phrase: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "socksio" else known(name)
    )
    with pytest.raises(RewardError) as caught:
        make(name, "http://gpu1/v1")
    assert phrase in caught.value.message
    assert hint in caught.value.hint
    assert "hunter2" not in str(caught.value)


def make(name: str, url: str, **options: Any) -> Any:
    if name == "judge":
        return judge(url, model="m", **options)
    return RemoteReward(url=url, **options)


def ask(name: str, url: str, **options: Any) -> torch.Tensor:
    made = make(name, url, **options)
    if name == "judge":
        found: torch.Tensor = made.score(walls(0.8), prompts("a red wall"))
        return found
    found = made.score(MEDIA, PROMPTS)
    torch.testing.assert_close(found, MEDIA.flatten(1).mean(1))
    return found


@contextmanager
def server_of(name: str) -> Iterator[tuple[str, int]]:
    """A server of judges or of rewards: its path and its port."""
    with chat_server() if name == "judge" else serving(lambda r: Answer(good(r))) as server:
        parts = server.url.rpartition(":")[2]
        port, _, path = parts.partition("/")
        yield path, int(port)


@contextmanager
def relay(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """A SOCKS proxy without a password that leads everywhere to a port of this machine."""
    asked: list[bytes] = []

    def pipe(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client:
            client.recv(client.recv(2)[1])
            client.sendall(b"\x05\x00")
            head = client.recv(5)
            asked.append(client.recv(head[4]))
            client.recv(2)
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            with socket.create_connection(("127.0.0.1", port)) as target:
                back = threading.Thread(target=pipe, args=(target, client), daemon=True)
                back.start()
                pipe(client, target)
                back.join(5)

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("name", ["remote", "judge"])
def test_a_socks_proxy_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_of(name) as (path, port), relay(port) as (proxy, asked):
        monkeypatch.setenv("all_proxy", f"socks5://127.0.0.1:{proxy}")
        ask(name, f"http://judge.test/{path}")
    assert asked
    assert set(asked) == {b"judge.test"}


@pytest.mark.parametrize("name", ["remote", "judge"])
def test_an_http_proxy_works_and_is_named_where_it_does_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_of(name) as (path, port):  # which takes whole addresses as paths
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        ask(name, f"http://judge.test/{path}")
    with pytest.raises(RewardError, match=r"refused, through the proxy of http_proxy"):
        ask(name, f"http://judge.test/{path}", attempts=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate that signs itself, for 127.0.0.1, and what a server needs of it."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "judge")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    path, both = folder / "ca.pem", folder / "both.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(made.public_bytes(pem))
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + path.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return path, context


@contextmanager
def secure(context: ssl.SSLContext) -> Iterator[ChatServer]:
    with chat_server() as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        yield server


def test_certificates(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, context = certificate
    with secure(context) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(RewardError, match=r"its certificate is not trusted .self") as caught:
            ask("judge", url)
        assert "option ca_file, or in SSL_CERT_FILE" in caught.value.hint
        ask("judge", url, ca_file=str(path))
        with pytest.raises(RewardError, match="its certificate is not trusted"):
            ask("remote", url, attempts=1)
    with chat_server() as plain, pytest.raises(RewardError, match="no TLS connection") as caught:
        ask("judge", plain.url.replace("http://", "https://"))
    assert "http://" in caught.value.hint
    with pytest.raises(RewardError, match="option ca_file names can't be read"):
        make("remote", "http://h/x", ca_file=__file__)


def test_remote_waits_as_it_is_told() -> None:
    left = [Answer(b"", 429, headers={"retry-after-ms": "150"})]

    def plan(request: Any) -> Answer:
        return left.pop() if left else Answer(good(request))

    start = time.monotonic()
    with serving(plan) as server:
        ask("remote", server.url)
    assert time.monotonic() - start >= 0.15


def test_a_deadline_ends_a_hanging_attempt() -> None:
    def hang(handler: Handler, body: dict[str, Any]) -> bool:
        return handler.server.released.wait(20)

    phrase = r"no whole answer came within 0\.2 s"
    with chat_server(hang) as server, pytest.raises(RewardError, match=phrase):
        ask("judge", server.url, deadline=0.2, timeout=9.0)
