"""The names of the checks, by family: the one list that settings, findings and pages follow. Imports nothing. Floor 1."""

from __future__ import annotations

DESCRIPTION = (
    "activation-before-loss", "missing-log-softmax", "missing-sigmoid", "activation-on-output", "softmax-of-one",
    "missing-activation", "dropout-on-output", "normalisation-on-output", "batchnorm-after-dropout", "strong-dropout",
    "dropout-in-small-network", "bias-before-batchnorm", "kernel-beyond-input", "batchnorm-of-few-rows", "learning-rate",
    "weight-decay", "momentum", "loss-broadcast", "loss-parameters", "classes-as-numbers", "softmax-between-layers", "refused",
)  # fmt: skip
BATCH = (
    "unused-parameters", "frozen-parameters", "zero-gradient", "dead-units", "vanishing-gradient", "exploding-gradient",
    "exploding-activations", "first-loss", "rows-mixed", "random-in-eval", "train-eval-differ", "input-scale", "target-scale",
    "not-finite", "identical-units", "constant-output", "batch-of-one", "input-changed-in-place", "cannot-overfit", "not-watched",
    "step-changes-nothing",
)  # fmt: skip
CODE = (
    "layer-called-on-tensor", "layer-made-in-forward", "unregistered-layers", "state-not-registered", "fixed-device",
    "fixed-dtype", "cut-gradient", "no-grad-in-forward", "missing-super-init", "dropout-always-on", "squeeze-without-dim",
    "fixed-batch-size", "result-thrown-away", "mode-changed-in-forward",
)  # fmt: skip
DATA = (
    "target-leak", "duplicate-rows", "near-duplicate-rows", "shared-groups", "time-order", "missing-class", "shift",
    "constant-column", "identifier-column", "mostly-missing", "missing-as-zero", "sentinel-values", "conflicting-targets",
    "label-noise",
    "class-imbalance", "target-outliers", "few-rows",
)  # fmt: skip
FAMILIES = {"description": DESCRIPTION, "batch": BATCH, "code": CODE, "data": DATA}
FAMILY_OF = {slug: family for family, slugs in FAMILIES.items() for slug in slugs}
CHECKS = tuple(FAMILY_OF)
ALL = "all"  # in checks.skip: no check at all
