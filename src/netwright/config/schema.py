"""The settings of a run as one frozen tree; every field says what it means, its unit and what is automatic.

Absent (None) means automatic, the text "none" means off. Leaf names are unique across the sections, so keywords of
`netwright.train` are unambiguous. Floor 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from netwright.config import signatures
from netwright.config.backbones import backbone_problems
from netwright.config.calls import OBJECT, Call, layer_texts, parse_call
from netwright.config.data_schema import DataConfig, Section, one_in_a_list
from netwright.config.layer_schema import layer_names
from netwright.config.slugs import ALL, CHECKS
from netwright.config.training_schema import OPTIONAL, TrainingConfig
from netwright.config.tune_schema import TuneConfig
from netwright.config.updates import group_problems, step_problems
from netwright.config.values import shown
from netwright.errors import ConfigError, did_you_mean


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

    @field_validator("weights", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if value == "none" else value

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
