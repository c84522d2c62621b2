"""The settings of the rows: where they come from, how they are read, divided and prepared. Floor 1."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from netwright.config.calls import layer_texts
from netwright.config.values import shown

Kind = Literal["number", "category", "boolean", "date", "identifier", "ignore"]
Layout = Literal["NC", "NT", "NTC", "NCT", "NHW", "NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC"]
Share = Annotated[float, Field(ge=0, lt=1)] | Annotated[int, Field(ge=0)]
Names = str | list[str]
LONGEST_SIDE = 8192  # of an image, in pixels


def one_in_a_list(value: Any) -> Any:
    """Read one text as a list of one."""
    return [value] if isinstance(value, str) else value


class Section(BaseModel):
    """The base of all sections: frozen, and unknown keys are problems."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitConfig(Section):
    """Who goes where: by default 60 % train, 20 % valid, 20 % test, stratified for classes."""

    test: Share | str | list[int | str] | None = Field(
        None,
        description="Share (below 1) or number of the rows for the test set; or an array's name in `file`; or row "
        "numbers, with `group` values of the group. Default 0.2, and 0 where data.test names a file.",
    )
    valid: Share | str | list[int | str] | None = Field(
        None,
        description="Likewise for the validation set. With data.train or `train` given: a share of those rows. Fewer than 100 "
        "series with the default network all train (docs/series.md).",
    )
    train: str | list[int | str] | None = Field(
        None, description="Row numbers (from 0), with `group` values of the group; or an array's name in `file`."
    )
    calibration: Share | str | None = Field(
        None,
        description="Share (below 1) or number of the train rows that are set aside: they neither train nor choose, so that "
        "intervals and a temperature made from them keep what they promise; or an array's name in `file`.",
    )
    file: str | None = Field(
        None, description="An .npz file that holds row numbers; {fold} in a name is the number of the `fold`."
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Test one of so many equal parts instead of a share; in order of time, of blocks that go forward."
    )
    repeats: Annotated[int, Field(ge=1)] = Field(1, description="How often rows are dealt out to folds anew.")
    fold: Annotated[int, Field(ge=0)] = Field(0, description="Which fold tests, from 0; `cv` trains all.")
    gap: Annotated[int, Field(ge=0)] = Field(0, description="Rows between the parts, in order of time, that belong to none.")
    stratify: bool | None = Field(None, description="Keep the shares of the classes; default true for classes.")
    group: str | None = Field(None, description="Column whose equal values never part (patient, site, ...).")
    time: str | None = Field(None, description="Column to sort by: the oldest rows train, the newest test.")
    in_order: bool = Field(False, description="The rows stand in order of time: the first train, the last test.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed of the split alone.")

    @field_validator("test", "valid", "calibration", mode="before")
    @classmethod
    def _share_or_rows(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        rows = isinstance(value, list) and all(isinstance(row, int | str) and not isinstance(row, bool) for row in value)
        fits = (isinstance(value, int) and value >= 0) or (isinstance(value, float) and 0 <= value < 1)
        if not (value is None or isinstance(value, str) or rows or (number and fits)):
            raise ValueError(
                f"{shown(value)} came; expected a share from 0 to below 1, a whole number of rows, or a list of row "
                "numbers or groups; write for instance 0.2 or 150"
            )
        return value


class PreparationConfig(Section):
    """How raw columns become numbers; everything is fitted on the train rows only."""

    numbers: Literal["standardize", "quantile", "none"] = Field(
        "standardize",
        description="Scale numbers to mean 0 and deviation 1, or by rank to a normal distribution, or leave them. The default "
        "network of a table reads quantile.",
    )
    rare: Annotated[int, Field(ge=1)] = Field(
        1, description="A category seen fewer times than this in train counts as unknown."
    )
    target_scaling: Literal["standardize", "none"] | None = Field(
        None, description="Regression: train on a target of mean 0 and deviation 1; metrics stay in the user's units."
    )


class DataConfig(Section):
    """Where the rows come from and how they are read."""

    source: str | None = Field(
        None,
        description="A file (csv, tsv, txt, jsonl, these packed as gz; parquet, feather, arrow, xlsx, npz, npy, mat, h5, idx, ts), "
        "one in a zip archive (data.zip/rows.csv), a pattern (part-*.csv), an address (s3://...), "
        "a folder or zip of images (train|valid|test/CLASS/..., or CLASS/...), or sklearn:NAME.",
    )
    train: str | None = Field(None, description="Train rows, instead of `source`; likewise a file, pattern or address.")
    valid: str | None = Field(None, description="Validation rows.")
    test: str | None = Field(None, description="Test rows.")
    target: Names | None = Field(
        None, description='Column (or array, in an HDF5 file "data/y") to predict; several for several outputs or labels.'
    )
    inputs: Names | None = Field(None, description="Columns (or arrays) to learn from; default all others.")
    ignore: list[str] = Field(default_factory=list, description="Columns to leave out.")
    columns: list[str] | None = Field(None, description="Column names of a file without a header line.")
    header: bool | None = Field(None, description="Whether the first line holds names; false where columns are given.")
    kinds: dict[str, Kind] = Field(default_factory=dict, description="Column kinds that the inference gets wrong.")
    labels: dict[str, str] = Field(default_factory=dict, description='Target values to rename, {">50K." = ">50K"}.')
    classes: list[bool | int | str] | None = Field(
        None,
        description="All classes of the target in their order, where the rows may lack some: the network has an output for each.",
    )
    missing_values: list[str] | None = Field(None, description='All texts that mean missing, in place of "", "?", "NA", ...')
    missing: Literal["fill", "error"] = Field("fill", description="What a missing cell does: filled and flagged, or exit 3.")
    delimiter: str | None = Field(None, description='Between fields: one character, or "whitespace".')
    decimal: Literal[".", ","] = Field(".", description="The decimal mark of numbers in text files.")
    thousands: Literal[",", ".", " ", "'"] | None = Field(
        None,
        description="The mark between thousands of such numbers, as in 1,234.5; beside a decimal comma the point may stand.",
    )
    encoding: str = Field("utf-8", description="Of text files.")
    sheet: str | None = Field(None, description="Sheet of an Excel file; default the first.")
    task: Literal["binary", "multiclass", "multilabel", "regression"] | None = Field(
        None,
        description="Default: texts, booleans and whole numbers with up to 20 values are classes; several columns of 0 and 1, "
        "and lists, are labels (multilabel).",
    )
    label_separator: Annotated[str, Field(min_length=1)] | None = Field(
        None, description='What stands between the labels of a row in one text column, ";" in "a;b": multilabel.'
    )
    sequences: str | None = Field(
        None,
        description="Rows are sequences: a column whose equal values are one sequence (a line per step), or the name of a file "
        'per sequence with columns of the table in braces, "series/{id}.csv".',
    )
    window: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Steps of a window over a time series; no window crosses the split, which goes by time."
    )
    horizon: Annotated[int, Field(ge=1)] | None = Field(
        None, description="How many steps after its window the target lies; default 1. Each step's own with `sequences`."
    )
    stride: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Steps between two windows; default 1, for the next symbol of a text the window."
    )
    text: Literal["characters", "words"] | None = Field(
        None, description="Read a text column (or a .txt file) as a sequence of characters, or of words between white space."
    )
    join: str | None = Field(None, description="A further table, joined by the columns that both have.")
    rungs: list[int] | None = Field(None, description="Written by netwright: the lengths that sequences are padded to.")
    images: str | None = Field(
        None, description="Rows are images: the table's column of their paths, taken from the folder (or zip) of the table."
    )
    image_mode: Literal["grey", "rgb", "grey16"] | None = Field(
        None,
        description="What images become: grey where all train images are; grey16, float32 from 0 to 255 that keeps 16 bits, "
        "where one of them has 16 bits; else rgb.",
    )
    image_size: list[int] | None = Field(
        None,
        description="[height, width] that images are stretched to; left out, their own where all have one up to 256, else the "
        "median of the train images with at most 128 on the longer side.",
    )
    bad_images: Literal["error", "skip"] = Field(
        "error", description="What a damaged image does: exit 3, or left out and counted, at most 1 in 100."
    )
    storage: Literal["memory", "map"] | None = Field(
        None,
        description="Where prepared rows lie: in memory, or prepared once into a file that is mapped; left out, a map where the "
        "table would take more than a quarter of the free memory, in all processes of a machine that work together.",
    )
    cache: str | None = Field(
        None,
        description="Folder for copies of files at an address, and for what is prepared once and mapped; default .netwright-cache "
        "here.",
    )
    shuffle: Literal["full"] | list[int] | None = Field(
        None, description="Written by netwright: how mapped rows are shuffled, or [rows of a block, blocks of a window]."
    )
    layout: Layout | None = Field(None, description="What the axes of arrays mean; NHW and NDHW get a channel.")
    split: SplitConfig = SplitConfig()
    preparation: PreparationConfig | Literal["none"] = PreparationConfig()
    augmentation: list[str] = Field(
        default_factory=list,
        description="Random changes of the train rows: torchvision.transforms.v2 in its own spelling for images, and Noise, "
        "Scale, TimeShift, TimeMask, MixUp, CutMix.",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="Processes that augment images, and read the items of a Dataset; the numbers are the same for any."
    )
    sampling: Literal["balanced"] | None = Field(
        None,
        description="How an epoch draws its rows: balanced, with replacement and each class as often as any other, like "
        "torch.utils.data.WeightedRandomSampler; left out, each row once.",
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        64,
        description="Rows per step, over all processes; for a default network 16 to 256, by its rows.",
    )
    last_batch: Literal["keep", "drop"] | None = Field(
        None, description="The smaller last batch of an epoch; kept, unless it is one row and a layer is BatchNorm."
    )

    @property
    def of_steps(self) -> bool:
        """Whether a row is made of steps."""
        return self.sequences is not None or self.window is not None

    @field_validator("ignore", "columns", "missing_values", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return one_in_a_list(value)

    @field_validator("classes", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        """Read arrays and other sequences of Python, and ranges, as lists of plain values."""
        found = value.tolist() if hasattr(value, "tolist") else value
        return list(found) if isinstance(found, list | tuple | range) else found

    @field_validator("classes")
    @classmethod
    def _several(cls, value: list[Any] | None) -> list[Any] | None:
        if value is not None and (len(value) < 2 or len({*value}) < len(value)):
            raise ValueError(f"{len({*value})} different classes came; expected two or more, each once; name them all")
        return value

    @field_validator("preparation", mode="before")
    @classmethod
    def _of_numbers(cls, value: Any) -> Any:
        """Read a text alone as what is done to numbers."""
        return {"numbers": value} if value in ("standardize", "quantile") else value

    @field_validator("sampling", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if value == "none" else value

    @field_validator("augmentation", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        """Read one text, ``RandomHorizontalFlip(), RandomCrop(28, padding=4)``, as the list of its transforms."""
        return layer_texts(value, "data.augmentation") if isinstance(value, str) else value

    @field_validator("image_size")
    @classmethod
    def _height_and_width(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and (len(value) != 2 or not all(1 <= side <= LONGEST_SIDE for side in value)):
            raise ValueError(
                f"{shown(value)} came; expected [height, width] from 1 to {LONGEST_SIDE}; write for instance [64, 64]"
            )
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        plain = value is not None and len(value) == 1 and value.isascii() and (value.isprintable() or value == "\t")
        if value is not None and value != "whitespace" and (not plain or value in "\"'"):
            raise ValueError(f"{shown(value)} came; expected one character or 'whitespace'; write for instance ';'")
        return value

    @model_validator(mode="after")
    def _two_marks(self) -> DataConfig:
        if self.thousands == self.decimal:
            raise ValueError(
                f"thousands {shown(self.thousands)} came, which is the decimal mark; expected another; set decimal too"
            )
        return self

    @model_validator(mode="after")
    def _one_way_in(self) -> DataConfig:
        if self.source is not None and self.train is not None:
            raise ValueError("source and train came together; name one file in source, or train and test files apart")
        for name in ("horizon", "stride"):
            if self.window is None and getattr(self, name) is not None:
                raise ValueError(f"{name} came without window; it says where windows and their targets lie; set window too")
        if self.train is None and (self.valid is not None or self.test is not None):
            raise ValueError("valid or test came without train; name the file of train rows in data.train")
        return self
