// Thumbnails open in a dialog, beside the other models' pictures of the same prompt and noise.
(() => {
  const box = document.getElementById("enlarged");
  const [title, row] = [box.querySelector("h2"), box.querySelector("div")];
  const thumbs = [...document.querySelectorAll(".thumb")];
  let now = 0;
  const show = (number) => {
    now = (number + thumbs.length) % thumbs.length;
    const chosen = thumbs[now];
    const of = (one) => one.closest("[data-of]").dataset.of;
    const beside = [...chosen.closest("[data-set]").querySelectorAll(".thumb")]
      .filter((one) => one.dataset.at === chosen.dataset.at);
    title.textContent = chosen.firstElementChild.alt.slice(of(chosen).length + 2);
    row.style.setProperty("--num", beside.length);
    row.replaceChildren(...beside.map((one) => {
      const figure = document.createElement("figure");
      const words = document.createElement("figcaption");
      words.textContent = of(one);
      figure.append(one.firstElementChild.cloneNode(), words);
      figure.classList.toggle("chosen", one === chosen && beside.length > 1);
      return figure;
    }));
    if (!box.open) box.showModal();
  };
  thumbs.forEach((one, number) => one.addEventListener("click", () => show(number)));
  box.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (turn) { event.preventDefault(); show(now + turn); }
  });
  box.addEventListener("click", (event) => {
    const turn = event.target.dataset.turn;
    if (turn) show(now + Number(turn));
    else if (event.target === box || event.target.dataset.close) box.close();
  });
  box.addEventListener("close", () => thumbs[now].focus());
})();
