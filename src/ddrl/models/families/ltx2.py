"""LTX-2: the video half of a network that denoises video and sound side by side."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from torch import Tensor

from ddrl.models.families.ltx_video import LTXCondition, LTXVideo
from ddrl.models.text_lengths import lengths_of, without_padding
from ddrl.records import Condition

OTHER_PARTS = ("audio_", "av_cross_attn_", "video_to_audio_", "video_a2v_", "keyframes_")
"""Prefixes of modules that the video does not pass through: the sound's stream, the attention
between the two, and a mark of key frames that text to video does not set."""


class LTX2(LTXVideo):
    """LTX-2 without sound, with the first frame given or without.

    The network predicts the velocity and takes sigma x 1000.

    Sound is left out: attention between the streams is off (``isolate_modalities``), so that the
    video's velocity depends on its own latents, time and text alone; the sound's stream is given
    one token of zeros, and its weights are neither trained nor adapted.

    Departs: the pipeline denoises a video with its sound. Without guidance by text, its
    ``modality_scale=0`` and ``audio_modality_scale=2`` leave the isolated velocity, the one here.
    Its defaults add guidance by skipped attention, by the other stream and by rescaling, where
    ddrl has u + w (c - u) only, both isolated. The pipeline compresses a given picture as a video
    before it is encoded, by default; ddrl takes the pixels as they are (``image_crf=0``).

    Args, attributes and errors are those of :class:`LTXVideo`.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("LTX2Pipeline", "LTX2ImageToVideoPipeline")
    lora_targets: ClassVar[tuple[str, ...]] = tuple(
        f"{attention}.{part}"
        for attention in ("attn1", "attn2")
        for part in ("to_q", "to_k", "to_v", "to_out.0")
    )

    def guidance_lines(self, guidance: float) -> list[str]:
        """A word about guidance."""
        word = "# Guided, the pipeline lets sound act on the video, ddrl does not: samples differ."
        return [word] if guidance != 1 else []

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Without the other guidances of the pipeline and, as far as it goes, without sound."""
        return {
            "guidance_scale": guidance,
            "audio_guidance_scale": 1.0,
            "stg_scale": 0.0,
            "audio_stg_scale": 0.0,
            "guidance_rescale": 0.0,
            "modality_scale": 0.0,
            "audio_modality_scale": 2.0,
            **({"image_crf": 0} if self.given_frames else {}),
        }

    def is_used(self, name: str) -> bool:
        """Return whether the video's velocity depends on the module or parameter of this name."""
        return not any(part.startswith(OTHER_PARTS) for part in name.split("."))

    def _encode(self, texts: list[str]) -> LTXCondition:
        """All layers of the text encoder, through the connector that makes the video's tokens.

        It puts learned tokens in place of the padding, if it has them; either way the mask that
        comes out is all true (diffusers 0.42).
        """
        embeds, mask, _, _ = self.pipeline.encode_prompt(
            prompt=texts,
            do_classifier_free_guidance=False,
            max_sequence_length=self._defaults["max_sequence_length"].default,
            device=self.device,
        )
        side = self.pipeline.tokenizer.padding_side  # encode_prompt has set it
        embeds, _, mask = self.pipeline.connectors(embeds, mask, padding_side=side)
        return LTXCondition(embeds, mask.bool(), lengths_of(mask))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: image-to-video without a first frame, or with one of another size.
        """
        assert isinstance(condition, LTXCondition)
        clip = self.with_given(x_t, condition)
        frames, height, width = clip.shape[2:]
        network: Any = self.transformer
        tokens = clip.to(self.dtype).flatten(2).transpose(1, 2)
        config = network.config
        words = config.caption_channels  # projected to the sound's width, if there is a projection
        words = words if config.use_prompt_embeddings else config.audio_cross_attention_dim
        embeds, mask = without_padding(
            self.transformer, condition.length.tolist(), condition.embeds, condition.mask
        )
        output = network(
            hidden_states=tokens,
            audio_hidden_states=tokens.new_zeros(len(x_t), 1, config.audio_in_channels),
            encoder_hidden_states=embeds.to(self.dtype),
            audio_encoder_hidden_states=tokens.new_zeros(len(x_t), 1, words),
            timestep=self.times(t * 1000, clip),
            audio_timestep=t * 1000,
            sigma=t * 1000,
            encoder_attention_mask=mask,
            num_frames=frames,
            height=height,
            width=width,
            fps=self.frame_rate,
            audio_num_frames=1,
            isolate_modalities=True,
            return_dict=False,
        )
        return self.unpacked(cast(Tensor, output[0]), clip)
