"""The settings of a run as one frozen tree; every field says what it means, its unit and what is automatic.

Absent (None) means automatic, the text "none" means off. Leaf names are unique across the sections, so keywords of
`netwright.train` are unambiguous. Floor 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from netwright.config import signatures
from netwright.config.backbones import backbone_problems
from netwright.config.calls import OBJECT, Call, layer_texts, parse_call
from netwright.config.data_schema import DataConfig, Section, one_in_a_list
from netwright.config.layer_schema import UnfreezeConfig, layer_names
from netwright.config.metrics import KNOWN, problem_of
from netwright.config.slugs import ALL, CHECKS
from netwright.config.tune_schema import TuneConfig
from netwright.config.updates import GRADIENTS, GROUP_SCHEMA, group_problems, step_problems
from netwright.config.values import shown
from netwright.errors import ConfigError, did_you_mean

OPTIONAL = ("schedule", "average")  # texts of the training that may be "none"


class ModelConfig(Section):
    """The network: a list of layer texts, or an own class; left out, one that fits the data's shape."""

    layers: list[str] | None = Field(None, description='Texts as in nn.Sequential, ["Linear(64)", "ReLU()", "Linear()"].')
    backbone: str | None = Field(
        None,
        description='A network of torchvision or timm without weights, "torchvision.models.resnet18()" or '
        "\"timm.create_model('resnet18')\"; nothing is downloaded.",
    )
    module: str | None = Field(None, description='An own class, "my_net.py:SimpleModel"; runs only with --code my_net.py.')
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the own class.")
    object: str | None = Field(None, description="Written by netwright for a module handed over in Python.")
    weights: str | None = Field(
        None, description="Weights to start from: a run, a bundle, a .safetensors file, or a .pt file of torch.save."
    )
    head: list[str] | None = Field(
        None,
        description='Layers that begin new beside model.weights, by name or pattern, such as ["8"]; left out, the last layer where '
        'its shape differs; "none" where none may.',
    )

    @field_validator("layers", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        """Read one text, ``nn.Sequential(...)`` or ``Flatten(), Linear()``, as the list of its layers."""
        return layer_texts(value, "model.layers") if isinstance(value, str) else value

    @field_validator("head", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return None if value is None else layer_names(value)

    @model_validator(mode="after")
    def _one_network(self) -> ModelConfig:
        named = [name for name in ("layers", "backbone", "module", "object") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} came together; describe the network in one of them")
        if self.arguments and self.module is None:
            raise ValueError("arguments came without module; they belong to an own class")
        if self.head is not None and self.weights is None:
            raise ValueError(
                f"head {shown(self.head)} came without weights; without them every layer begins new; leave it out"
            )
        if self.layers is not None and not self.layers:
            raise ValueError("an empty list came; expected at least one layer, such as Linear()")
        if self.module is not None and not self.module.rpartition(":")[0].endswith(".py"):
            raise ValueError(
                f"module {shown(self.module)} came; expected FILE.py:ClassName; write for instance my_net.py:SimpleModel"
            )
        return self


class EarlyStoppingConfig(Section):
    """Stop when the monitored figure has not improved for `patience` epochs."""

    monitor: str = Field("valid_loss", description="A column of history.csv.")
    mode: Literal["min", "max"] | None = Field(None, description="Default: max for accuracy, else min.")
    patience: Annotated[int, Field(ge=1)] = Field(20, description="Epochs without improvement.")


class TrainingConfig(Section):
    """How the network learns."""

    epochs: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Exactly so many; left out: at most 200, stopped early with patience 20; for the default network of a table by "
        "its rows.",
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(None, description="Stop after so many steps, even inside an epoch.")
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Stop after the step that ends so many seconds of training, even inside an epoch."
    )
    optimizer: str = Field(
        "Adam(lr=0.001)", description="torch.optim's own spelling; the default network of a table has one of its own."
    )
    parameter_groups: list[dict[str, Any]] = Field(
        default_factory=list,
        description='Parameters with arguments of the optimizer for themselves: [{ parameters = ["biases", "norms"], weight_decay '
        "= 0.0 }]; the first group that speaks of a parameter has it, the rest keep the optimizer's own (docs/optimizers.md).",
        json_schema_extra={"items": GROUP_SCHEMA},
    )
    clip_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="The 2-norm that the gradients have at most, by torch.nn.utils.clip_grad_norm_."
    )
    clip_grad_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="What each number of a gradient is at most by magnitude, by torch.nn.utils.clip_grad_value_."
    )
    l1: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Penalty on the magnitudes of weights, not of biases and norms: l1 * sign(weight) is added to the gradient; "
        "the losses told are without it. L2 is weight_decay of the optimizer.",
    )
    sharpness: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Sharpness-aware minimisation (Foret and others, 2021): the gradient is taken so far uphill (rho), such as "
        "0.05; a step takes twice as long.",
    )
    loss: str | None = Field(None, description="torch.nn's own spelling; left out, the task decides.")
    class_weight: Literal["balanced"] | None = Field(
        None,
        description="Classes count in the loss by the inverse of their number of train rows; written into the loss: weight, or "
        "pos_weight where outputs say yes or no.",
    )
    schedule: str | None = Field(
        None,
        description="Of the learning rate: torch.optim.lr_scheduler's own spelling, such as CosineAnnealingLR(); or "
        "WarmupCosine(warmup=0.05).",
    )
    average: str | None = Field(
        None,
        description="Averaged weights that are validated and kept: EMA(decay=0.999) after every step, or SWA(start_epoch=15) after "
        "every epoch.",
    )
    early_stopping: EarlyStoppingConfig | Literal["none"] | None = Field(None)
    metrics: list[str] = Field(
        default_factory=list,
        description='Further figures of every epoch and of the test, by scikit-learn\'s names, such as ["cohen_kappa_score"].',
        json_schema_extra={"items": {"type": "string", "anyOf": [{"enum": list(KNOWN)}, {"pattern": f"^{OBJECT}"}]}},
    )
    step: str | None = Field(None, description="Written by netwright for a training step handed over in Python.")
    evaluate: str | None = Field(None, description="Written by netwright for the figures of such a step.")
    stop: str | None = Field(None, description="Written by netwright for a stop condition handed over in Python.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of initialisation, order and dropout.")
    device: str | None = Field(None, description="auto, cpu, cuda, cuda:1 or mps.")
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="CPU threads; default by a rule on the work per step."
    )
    lanes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Cores that share a captured step with threads = 1; default by a rule on the work per step."
    )
    engine: Literal["auto", "eager", "captured", "compiled"] = Field(
        "auto",
        description="How a step is executed: eager, as it is written; captured, recorded once and replayed with the same bits. "
        "compiled, by torch.compile, with other last bits. auto takes captured where that works, else eager.",
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32",
        description="Of products: tf32 on a GPU that has it, bfloat16 by torch.autocast, float16 with torch.amp.GradScaler too; "
        "weights and their updates stay float32.",
    )
    memory_format: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="How the weights of 2-d convolutions lie; channels_last is often faster for images."
    )
    micro_batch: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Rows that go forward and backward at a time; gradients are added up over the batch. Takes less memory; "
        "BatchNorm then sees so many rows at a time.",
    )

    freeze: list[str] = Field(
        default_factory=list,
        description='Layers or parameters that do not learn, by name or pattern, such as ["0", "features.*", "embeddings"]; batch '
        "norm layers among them keep their statistics.",
    )
    unfreeze: list[UnfreezeConfig] = Field(
        default_factory=list,
        description='From which epoch on frozen ones learn, such as [{ epoch = 3, parameters = ["4"] }].',
    )

    @field_validator("freeze", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return layer_names(value)

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _one_table(cls, value: Any) -> Any:
        return [] if value == "none" else [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _frozen_before(self) -> TrainingConfig:
        if self.unfreeze and not self.freeze:
            raise ValueError("unfreeze came without freeze; expected layers that are frozen; write them in freeze too")
        return self

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """Read true as the default section and false as "none"."""
        return ({} if value else "none") if isinstance(value, bool) else value

    @field_validator(*OPTIONAL, mode="before")
    @classmethod
    def _text_or_none(cls, value: Any) -> Any:
        """Read "none" as nothing, and refuse a list."""
        if isinstance(value, list | tuple):
            parts = ", ".join(map(str, value))
            raise ValueError(f"a list came; expected one text; write SequentialLR([{parts}], milestones=[...])")
        return None if value in ("none", False) else value

    @field_validator("parameter_groups", *GRADIENTS, mode="before")
    @classmethod
    def _off(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "none":
            return [] if info.field_name == "parameter_groups" else None
        return value

    @field_validator("metrics", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return [] if value == "none" else one_in_a_list(value)

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: list[str]) -> list[str]:
        for name in value:
            problem = None if name.startswith(OBJECT) else problem_of(name)
            if problem is not None:
                raise ValueError(f"{problem}; a function of one's own goes in from Python: metrics={{name: function}}")
        if len(set(value)) < len(value):
            raise ValueError(f"{shown(value)} came; expected each name once; leave one out")
        return value

    @field_validator("step", "evaluate", "stop")
    @classmethod
    def _from_python(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(OBJECT):
            raise ValueError(f"{shown(value)} came; expected a function, which is handed over in Python; call nw.train")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str | None) -> str | None:
        kind = (value or "auto").partition(":")
        if kind[0] not in ("auto", "cpu", "cuda", "mps") or (kind[1] and not kind[2].isdecimal()):
            raise ValueError(f"{shown(value)} came; expected auto, cpu, cuda, cuda:N or mps; write one of these")
        return value


class CheckpointConfig(Section):
    """When the state of a run is kept, so that it can be resumed; one is kept at the start and the end anyway."""

    every_steps: Annotated[int, Field(ge=1)] | None = Field(None, description="After every so many steps.")
    every_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="After the step that ends so many seconds. Left out, without every_steps: 60, or more where saving would "
        "take above a twentieth of the time.",
    )
    keep: Annotated[int, Field(ge=1)] = Field(2, description="How many of the last stay; each holds the best weights too.")


class ChecksConfig(Section):
    """What is looked for before training; findings warn, with --strict they exit 2 (network) or 3 (data)."""

    skip: list[str] = Field(
        default_factory=list,
        description='Checks to leave out, by their names in docs/checks.md, such as ["shift"]; ["all"] leaves all out.',
        json_schema_extra={"items": {"type": "string", "enum": [ALL, *CHECKS]}},
    )
    near_duplicates: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None,
        description="Look for valid and test rows nearer to a train row than this share of the usual distance between train "
        "neighbours, such as 0.1.",
    )

    @field_validator("skip", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return one_in_a_list(value)

    @field_validator("skip")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        for name in value:
            if name not in (ALL, *CHECKS):
                alike = [slug for slug in CHECKS if name.lower().replace("_", "-") in slug]
                advice = f"did you mean {' or '.join(alike)}?" if alike else did_you_mean(name, (ALL, *CHECKS))
                raise ValueError(f"{shown(name)} came; expected names of checks; {advice}")
        return value


class EvaluationConfig(Section):
    """What the test shows beside its figures; nothing here changes the weights."""

    baselines: list[Literal["simple", "linear", "boosting"]] = Field(
        ["simple", "linear", "boosting"],
        description="Models trained on the same train rows and tested on the same test rows: simple (the most frequent class, the "
        "mean; for series the last value and that of a season ago), linear or logistic, histogram gradient boosting.",
    )
    season: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Steps after which a series repeats; left out, found on the train rows."
    )
    slices: list[str] | None = Field(
        None,
        description="Columns by whose values the test rows are shown apart; left out, categories of few values and the group.",
    )
    importance: bool = Field(True, description="How much worse the figure gets when a column of the test rows is shuffled.")
    temperature: bool = Field(
        False, description="Divide the logits by a number fitted on the valid rows, so that probabilities are calibrated."
    )
    threshold: Literal["f1", "balanced_accuracy", "accuracy"] = Field(
        "f1", description="Of two classes: the figure for which the threshold shown is best on the valid rows."
    )
    coverage: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9, description="Share of new rows that the prediction intervals of a regression shall hold."
    )
    worst: Annotated[int, Field(ge=0, le=200)] = Field(
        24, description="How many of the worst errors are kept and shown; 0 leaves rows out of the report."
    )

    @field_validator("baselines", "slices", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return [] if value == "none" else one_in_a_list(value)


class RunConfig(Section):
    """Everything a run can be told."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    checks: ChecksConfig = ChecksConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tune: TuneConfig | None = None

    def layer_calls(self) -> list[Call] | None:
        """Return the layer texts as calls, or None without a list."""
        if self.model.layers is None:
            return None
        return [parse_call(text, f"model.layers.{place}") for place, text in enumerate(self.model.layers)]

    def transform_calls(self) -> list[Call]:
        """Return the texts of the augmentation as calls with every argument by keyword.

        Raises:
            ConfigError: An argument is missing or given twice.
        """
        wheres = [f"data.augmentation.{place}" for place in range(len(self.data.augmentation))]
        pairs = zip(self.data.augmentation, wheres, strict=True)
        return [signatures.named(parse_call(text, where), signatures.transforms(), where) for text, where in pairs]

    def call_problems(self) -> list[str]:
        """Return what is wrong with the names in call texts and parameter groups, all of it."""
        training, backbone = self.training, self.model.backbone
        found = call_problems(self.model.layers, training.model_dump(), self.data.augmentation)
        found += [] if backbone is None else backbone_problems(backbone)
        return found or group_problems(training.parameter_groups, training.optimizer) + step_problems(training)


def call_problems(layers: Any, training: Mapping[str, Any], augmentation: Any) -> list[str]:
    """Return what is wrong with call texts, all of it; values that are no texts are passed over.

    Args:
        layers: Of the model.
        training: The section.
        augmentation: Of the data.

    Raises:
        SafetyError: A text hides code.
    """
    found: list[str] = []
    for place, text in enumerate(layers if isinstance(layers, list) else []):
        if isinstance(text, str):
            found += _text_problems(text, f"model.layers.{place}", signatures.layers())
    for place, text in enumerate(augmentation if isinstance(augmentation, list) else []):
        if isinstance(text, str):
            found += _text_problems(text, f"data.augmentation.{place}", signatures.transforms())
    for name, registry in (
        ("optimizer", signatures.optimizers()),
        ("loss", signatures.losses()),
        ("schedule", signatures.schedulers()),
        ("average", signatures.averages()),
    ):
        text = training.get(name)
        if text == "none" and name in OPTIONAL:
            continue
        if isinstance(text, str) and not text.startswith(OBJECT):
            found += _text_problems(text, f"training.{name}", registry)
    return found


def _text_problems(text: str, where: str, registry: signatures.Registry) -> list[str]:
    bare = registry.bare_problem(text, where)
    if bare:
        return [bare]
    try:
        call = parse_call(text, where)
    except ConfigError as error:
        return [str(error)]
    if registry is signatures.layers():
        return signatures.layer_problems(call, where)
    if registry is signatures.schedulers():
        return signatures.scheduler_problems(call, where)
    problem = registry.problem(call, where)
    return [problem] if problem else []
