"""For every key of a recipe that has to do with training: a tiny job that shows what it does.

A key *changes* a job where the weights after two iterations, or their average, are others, or
where it stops the run; it *keeps* one where they are the same. A key that is shown elsewhere names
the test. The tables stand for themselves: `test_every_key.py` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHANGES", "ELSEWHERE", "KEEPS", "Case"]


@dataclass(frozen=True)
class Case:
    """Two recipes that differ in one key.

    Attributes:
        value: of the key, in the second recipe.
        given: overrides of both, apart from the key.
        start: the recipe that both begin with: ``digits``, ``clips`` or ``pipeline``.
    """

    value: str
    given: tuple[str, ...] = ()
    start: str = "digits"


DIT = ("model.network=dit", "model.heads=2")
FAST = ("optimizer.learning_rate=0.05", "objective.updates_per_rollout=2")
SYNTHETIC = ("data.anchor=synthetic", "data.synthetic.per_prompt=4")
FAILING = ("reward.0.name=tests.jobs.failing_reward:OneFails", "scoring.max_failed_share=1")
PLAIN = ("optimizer.epsilon=1",)  # AdamW is then nearly plain descent: a gradient's size tells
DROPS = ("scoring.on_failure=drop_sample",)
CENTER = ("objective.advantage=center",)
TILT = ("objective.advantage=tilt", "objective.beta=0.05", "reward.0.weight=-1")
TWO = ("reward.1.name=jpeg", *CENTER)

CHANGES: dict[str, Case] = {
    "model.path": Case("{root}/other", start="pipeline"),
    "model.variant": Case("ema", start="pipeline"),
    "model.dtype": Case("bfloat16", start="pipeline"),
    "model.start": Case("{root}/finished"),
    "model.network": Case("dit", ("model.heads=2",)),
    "model.width": Case("32"),
    "model.depth": Case("2"),
    "model.patch": Case("4", DIT),
    "model.patch_frames": Case("2", start="clips"),
    "model.heads": Case("4", DIT),
    "model.vae_dtype": Case("bfloat16", start="pipeline"),
    "model.lora.rank": Case("2", ("model.lora.alpha=8",), start="pipeline"),
    "model.lora.alpha": Case("32", start="pipeline"),
    "model.lora.targets": Case("attn.to_q", start="pipeline"),
    "model.lora.dora": Case("true", start="pipeline"),
    "model.pretrain.steps": Case("10"),
    "model.pretrain.batch_size": Case("8"),
    "model.pretrain.learning_rate": Case("0.01"),
    "model.pretrain.label_noise": Case("0"),
    "model.pretrain.condition_dropout": Case("0.5"),
    "model.pretrain.ema": Case("0.5"),
    "model.pretrain.seed": Case("1"),
    "data.path": Case("{root}/other-data", start="pipeline"),
    "data.height": Case("16", start="clips"),
    "data.width": Case("16", start="clips"),
    "data.frames": Case("8", start="clips"),
    "data.given_frames": Case("1", start="clips"),
    "data.heldout": Case("0.7", start="pipeline"),
    "data.anchor": Case("independent"),
    "data.synthetic_share": Case("0.25", ("data.anchor=mixed", "data.synthetic.per_prompt=4")),
    "data.condition_dropout": Case("0.5"),
    "data.target": Case("teacher"),
    "data.anchors_per_group": Case("2"),
    "data.synthetic.per_prompt": Case("5", SYNTHETIC),
    "data.synthetic.keep": Case("0.5", SYNTHETIC),
    "data.synthetic.sampler": Case("ode", SYNTHETIC),
    "data.synthetic.steps": Case("2", SYNTHETIC),
    "data.synthetic.guidance": Case("2", SYNTHETIC),
    "data.synthetic.seed": Case("1", SYNTHETIC),
    "reward.name": Case("jpeg"),
    "reward.weight": Case("3", CENTER),
    "reward.options.scale": Case("3", CENTER),
    "scoring.combine": Case("normalized", TWO),
    "scoring.kappa": Case("0.5", (*TWO, "scoring.combine=lower_confidence")),
    "scoring.on_failure": Case("drop_group", (*FAILING, *DROPS)),
    "scoring.max_failed_share": Case("0.01", (*FAILING, *DROPS)),
    "rollout.prompts_per_step": Case("2"),
    "rollout.group_size": Case("6"),
    "rollout.steps": Case("5"),
    "rollout.kernel": Case("dance_sde"),
    "rollout.eta": Case("0.5"),
    "rollout.time_shift": Case("2"),
    "rollout.stochastic_steps": Case("[0,1]"),
    "rollout.trained_steps": Case("[0,1]"),
    "rollout.guidance": Case("2"),
    "rollout.storage_dtype": Case("bfloat16"),
    "objective.policy": Case("reinforce", FAST),
    "objective.regularizer": Case("none"),
    "objective.beta": Case("3"),
    "objective.drift_budget": Case("0.01", ("objective.drift_budget_every=1",)),
    "objective.drift_budget_every": Case("1", ("objective.drift_budget=0.01",)),
    "objective.step_weight": Case("velocity"),
    "objective.advantage": Case("center"),
    "objective.advantage_clip": Case("0.5"),
    "objective.exponent_clamp": Case("0.1", TILT),
    "objective.clip_low": Case("0.001", FAST),
    "objective.clip_high": Case("0.001", (*FAST, "objective.regularizer=none")),
    "objective.log_prob_reduction": Case("mean", PLAIN),
    "objective.data_times": Case("uniform"),
    "objective.data_per_step": Case("one"),
    "objective.kl_in_return": Case("true", ("objective.regularizer=reference", *FAST)),
    "objective.updates_per_rollout": Case("2"),
    "optimizer.learning_rate": Case("0.001"),
    "optimizer.beta1": Case("0.5"),
    "optimizer.beta2": Case("0.9"),
    "optimizer.epsilon": Case("0.01"),
    "optimizer.weight_decay": Case("0.1"),
    "optimizer.warmup_steps": Case("3"),
    "optimizer.schedule": Case("cosine"),
    "optimizer.grad_clip": Case("0.01", PLAIN),
    "optimizer.ema": Case("0.5"),
    "optimizer.ema_warmup": Case("true"),
    "guard.max_grad_norm": Case("0.000001"),
    "guard.max_ratio": Case("1.0001", FAST),
    "guard.max_latent_std": Case("0.01", ("guard.min_latent_std=0",)),
    "guard.min_latent_std": Case("100", ("guard.max_latent_std=0",)),
    "guard.max_drift": Case(
        "0.000001", ("evaluation.every=1", "objective.regularizer=none", *FAST)
    ),
    "run.steps": Case("16", ("optimizer.schedule=cosine",)),
    "run.seed": Case("1"),
    "run.precision": Case("bfloat16"),
}

KEEPS: dict[str, Case] = {
    "model.gradient_checkpointing": Case("true", start="pipeline"),
    "model.offload": Case("true", start="pipeline"),
    "model.vae_slicing": Case("true", start="pipeline"),
    "model.distilled": Case("no", start="pipeline"),
    "reward.label": Case("brightness"),
    "reward.timeout": Case("60"),
    "reward.retries": Case("2"),
    "reward.samples_per_call": Case("5"),
    "reward.cache": Case("true"),
    "scoring.overlap": Case("false", ("run.micro_batch=5",)),
    "evaluation.every": Case("1"),
    "evaluation.prompts": Case("3", ("evaluation.every=1",)),
    "evaluation.samples_per_prompt": Case("3", ("evaluation.every=1",)),
    "evaluation.steps": Case("3", ("evaluation.every=1",)),
    "evaluation.solver": Case("euler", ("evaluation.every=1",)),
    "evaluation.drift_limit": Case("0.2", ("evaluation.every=1",)),
    "evaluation.seed": Case("5", ("evaluation.every=1",)),
    "run.folder": Case("{root}/elsewhere"),
    "run.cache": Case("{root}/other-cache"),
    "run.micro_batch": Case("5"),
    "run.steps_per_pass": Case("2"),
    "run.checkpoint_every": Case("1"),
    "run.keep_checkpoints": Case("5"),
    "run.threads": Case("1"),
    "run.float32_matmul": Case("high"),
    "rollout.merge": Case("never"),
    "rollout.storage_device": Case("host"),
    "run.tensorboard": Case("false"),
    "run.wandb_project": Case("none"),
}

ELSEWHERE: dict[str, str] = {
    "model.family": "flow/test_diffusers.py::test_samples",
    "model.embedded_guidance": "models/families/test_flux.py::"
    "test_a_recipe_sets_the_embedded_guidance",
    "model.attention": "models/test_attention.py::test_math_is_what_is_computed_by_default",
    "model.vae_tiling": "models/test_vae_memory.py::test_tiles_differ_little_and_are_in_the_keys",
    "model.compile": "flow/test_weight_switches.py::test_compiling_changes_little",
    "model.lora.start": "cli/test_export_start.py::test_a_whole_run_from_an_adapter",
    "data.source": "flow/test_prompts.py::test_it_trains_and_drift_is_measured",
    "data.sizes": "builders/test_sizes.py::"
    "test_each_step_has_one_size_with_its_own_times_and_replays_exactly",
    "data.fps": "builders/test_corpus.py::test_clips_are_sampled_at_the_recipe_s_rate",
    "data.outside": "builders/test_corpus.py::test_files_outside_are_read_if_the_recipe_allows_it",
    **dict.fromkeys(
        ("data.split", "data.layout", "data.caption_column", "data.media_column"),
        "builders/test_corpus.py::test_a_recipe_names_splits_layout_and_columns",
    ),
    **dict.fromkeys(
        ("data.source_images", "data.source_column"),
        "flow/test_editing.py::test_no_column_of_sources",
    ),
    "data.config": "builders/test_corpus.py::test_a_set_of_the_hub_is_the_same_data_as_its_files",
    "data.on_broken": "cli/test_encode.py",
    "evaluation.encoder": "flow/test_audit.py",
    "evaluation.panel_samples": "flow/test_panel.py",
    "evaluation.panel": "flow/test_panel.py",
    "evaluation.stop_on_hack": "flow/test_panel.py",
    "evaluation.reward.name": "flow/test_audit.py",
    "evaluation.reward.label": "flow/test_audit.py",
    "evaluation.reward.timeout": "recipe/test_heldout_rewards.py",
    "evaluation.reward.retries": "recipe/test_heldout_rewards.py",
    "evaluation.reward.samples_per_call": "recipe/test_heldout_rewards.py",
    "evaluation.reward.cache": "recipe/test_heldout_rewards.py",
    "evaluation.reward.options": "recipe/test_heldout_rewards.py",
    "guard.replay_tolerance": "training/test_trainer.py::"
    "test_a_model_that_is_not_deterministic_is_refused",
    "run.device": "jobs/test_training.py::test_cuda_where_there_is_none",
}
