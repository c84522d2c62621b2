"""What NetClassifier and NetRegressor share: parameters, fit, prediction, pickling and files. Floor 17."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from netwright import files
from netwright.estimators import bundle
from netwright.estimators.learning import Learned, decoded, learn
from netwright.estimators.networks import Goal, reads_codes
from netwright.estimators.settings import (
    INSIDE,
    LAYERS,
    EstimatorError,
    Settings,
    as_value_errors,
    read_settings,
    with_inner,
)
from netwright.training.journal import EpochRecord

Numbers = npt.NDArray[Any]
SEEDS = np.iinfo(np.int32).max


class Net(BaseEstimator):  # type: ignore[misc]
    """A neural network as a scikit-learn estimator; use `NetClassifier` or `NetRegressor`.

    Everything is computed in the dtype of X (float64 stays float64), values are float64, nothing is written to disk, and no global
    generator moves, but NumPy's where ``random_state`` is None, as everywhere in scikit-learn. Its parameters are scikit-learn's
    words where it has one, and more than seven because scikit-learn sets parameters by name.

    Args:
        layers: Texts as in ``nn.Sequential``; sizes that are left out are worked out, the last ``Linear()`` from y.
        module: A ``torch.nn.Module`` (copied, trained from its weights), its class, or a function that makes one, instead
            of ``layers``.
        module_arguments: Keyword arguments for a class or function.
        optimizer: One of torch.optim, in its spelling.
        loss: One of torch.nn in its spelling, an instance of one, or a function of output and target; None for the usual one.
        epochs: Passes over the train rows.
        batch_size: Rows of a step; "auto" for 200, or all where there are fewer.
        standardize: Whether the columns of X and the target of a regression get mean 0 and deviation 1 for the network.
            Images and sequences get one mean a channel where the layers say which axis that is, else one for all.
        early_stopping: Whether to set rows aside and keep the weights of the epoch with their least loss.
        validation_fraction: Share of the rows that are set aside.
        n_iter_no_change: Epochs without a better one after which training ends, with ``early_stopping``.
        engine: "auto", "captured", "compiled" or "eager"; captured and eager give the same bits.
        threads: CPU threads of each operation; None for a rule on sizes.
        device: "cpu", "cuda" or "mps".
        random_state: Seed of initial weights, order and dropout; see scikit-learn's glossary.
        observers: Functions that are told a record after each epoch, for instance ``[print]``.
    """

    def __init__(
        self,
        layers: Any = LAYERS,
        *,
        module: Any = None,
        module_arguments: Mapping[str, Any] | None = None,
        optimizer: str = "Adam(lr=0.001)",
        loss: Any = None,
        epochs: int = 200,
        batch_size: int | str = "auto",
        standardize: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        engine: str = "auto",
        threads: int | None = None,
        device: str = "cpu",
        random_state: Any = None,
        observers: tuple[Callable[[EpochRecord], None], ...] = (),
    ) -> None:
        self.layers = layers
        self.module = module
        self.module_arguments = module_arguments
        self.optimizer = optimizer
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.standardize = standardize
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.engine = engine
        self.threads = threads
        self.device = device
        self.random_state = random_state
        self.observers = observers

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name, and what is in them: ``optimizer__lr``, ``loss__weight``, ``module_arguments__hidden``.

        Args:
            **params: Their values, for instance of a search.

        Returns:
            The estimator itself.

        Raises:
            ValueError: There is no such parameter, or the optimizer or loss is no text.
        """
        inside = {name: value for name, value in params.items() if name.partition("__")[0] in INSIDE and "__" in name}
        super().set_params(**{name: value for name, value in params.items() if name not in inside})
        for name, value in inside.items():
            key, _, inner = name.partition("__")
            with as_value_errors():
                setattr(self, key, with_inner(key, getattr(self, key), inner, value))
        return self

    def _settings(self) -> Settings:
        with as_value_errors():
            return read_settings(self.get_params(deep=False))

    def _learn(self, settings: Settings, rows: Numbers, goal: Goal, weight: Any) -> None:
        """Train on checked rows and keep what was learned."""
        random = check_random_state(self.random_state)
        whole = isinstance(self.random_state, numbers.Integral)
        seed = int(self.random_state) if whole else int(random.randint(SEEDS))
        counted = None
        if weight is not None:
            counted = _check_sample_weight(weight, rows, dtype=np.float64, ensure_non_negative=True)
            rows, goal, counted = _counted(rows, goal, counted)
        with as_value_errors():
            parts = _parts(settings, goal, seed)
            learned = learn(settings, rows, goal, counted, seed, parts)
        self._seed = seed  # what an own class draws when it is built again
        self._keep(learned)

    def _keep(self, learned: Learned) -> None:
        self.model_ = learned.network.module
        self.layers_ = learned.network.layers
        self.history_ = learned.history
        self.loss_curve_ = learned.history["train_loss"]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        self.n_outputs_ = learned.network.task.outputs
        self.best_epoch_ = learned.best_epoch
        self.engine_ = learned.played
        self._reading = learned.reading
        self._decoding = learned.network.task.decoding

    def _rows_and_target(self, X: Any, y: Any, settings: Settings, **keywords: Any) -> tuple[Numbers, Any]:
        """Return X, float32 or float64, and y, as scikit-learn checks them."""
        kinds: Any = np.float64 if reads_codes(settings.layers) else [np.float64, np.float32]
        found: tuple[Numbers, Any] = validate_data(self, X, y, dtype=kinds, allow_nd=True, multi_output=True, **keywords)
        return found

    def _decoded(self, X: Any) -> Numbers:
        """Return probabilities or values of rows."""
        check_is_fitted(self)
        reading = self._reading
        kind = np.float64 if reading.dtype == torch.float64 or reading.limit is not None else np.float32
        rows = validate_data(self, X, reset=False, dtype=kind, allow_nd=True)
        with as_value_errors():
            return decoded(self.model_, self._decoding, reading, rows, next(self.model_.parameters()).device)

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn wants to know: dense numbers, none missing; more axes are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = False
        tags.input_tags.sparse = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with arrays and texts in place of a network of layer texts, for pickle, joblib and skops."""
        state: dict[str, Any] = super().__getstate__()
        return bundle.as_plain(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the network again."""
        super().__setstate__(bundle.from_plain(state))

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator into one safetensors file, which holds numbers and texts but no code.

        Observers, an own loss and a random_state that is no whole number are left out; an own module is given again to `load`.

        Args:
            path: Where the file shall stand.

        Raises:
            NotFittedError: Nothing was learned yet.
            ResourceError: The file cannot be written.
        """
        check_is_fitted(self)
        files.write_bytes(Path(path), bundle.packed(type(self).__name__, self.get_params(deep=False), vars(self)))

    @classmethod
    def load(cls, path: str | Path, module: Any = None) -> Self:
        """Read what `save` wrote; no code is run.

        Args:
            path: The file.
            module: The own module, its class or the function that makes it, where the network was one.

        Returns:
            The estimator, with the predictions it had, bit for bit.

        Raises:
            EstimatorError: The file is damaged, or of another class or network.
        """
        with as_value_errors():
            parameters, state = bundle.unpacked(Path(path), cls.__name__, module)
        made = cls(**parameters)
        made.__dict__.update(state)
        return made


def _counted(rows: Numbers, goal: Goal, weight: Numbers) -> tuple[Numbers, Goal, Numbers | None]:
    """Leave rows of weight 0 out, and the weights where all are equal.

    Raises:
        EstimatorError: All weights are 0.
    """
    kept = weight > 0
    if not kept.any():
        raise EstimatorError("sample_weight: all sample weights are zero; expected one above 0; change sample_weight")
    if not kept.all():
        rows, weight = rows[kept], weight[kept]
        goal = Goal(goal.kind, goal.values[kept], goal.classes, goal.columns)
    return rows, goal, None if (weight == weight[0]).all() else weight


def _parts(settings: Settings, goal: Goal, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the numbers of the train and the valid rows, of each class about the same share.

    Raises:
        EstimatorError: There are too few rows.
    """
    rows = np.arange(len(goal.values))
    if settings.patience is None:
        return rows, rows[:0]
    classes = goal.values if goal.kind in ("binary", "multiclass") else None
    try:
        share = settings.validation_fraction
        train_rows, valid_rows = train_test_split(rows, test_size=share, random_state=seed, stratify=classes)
    except ValueError as error:
        raise EstimatorError(f"early_stopping: the rows cannot be divided: {error}; set early_stopping=False") from error
    return np.sort(train_rows), np.sort(valid_rows)
