"""NetClassifier: classes of any type, and several labels a row. Floor 17."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from netwright.config.calls import parse_call
from netwright.errors import NetwrightError
from netwright.estimators.estimator import Net
from netwright.estimators.networks import Goal
from netwright.estimators.settings import EstimatorError
from netwright.model.decisions import decide_each
from netwright.model.task import CLASS_LOSSES, loss_name

Numbers = npt.NDArray[Any]
SCORES = ("MultiMarginLoss",)  # losses whose outputs are no probabilities
FEW_CLASSES = 2


def _name_of(loss: Any) -> str:
    """Return the name of a loss, as text or object; an empty one where there is none, or none that can be read."""
    try:
        return "" if loss is None else parse_call(loss, "loss").name if isinstance(loss, str) else loss_name(loss)
    except NetwrightError:
        return ""  # fit tells


def _probabilistic(estimator: NetClassifier) -> bool:
    """Tell whether the outputs of a loss are probabilities."""
    name = _name_of(estimator.loss)
    if name in SCORES:
        raise AttributeError(f"loss: {name} gives scores; expected CrossEntropyLoss() or another loss of probabilities")
    return True


@final
class NetClassifier(ClassifierMixin, Net):  # type: ignore[misc]
    """A neural network that learns classes; see `Net` for its parameters.

    Two classes are learned with BCEWithLogitsLoss, more with CrossEntropyLoss, several labels a row (y of 0 and 1
    ``(rows, labels)``) with BCEWithLogitsLoss, where ``loss`` does not say otherwise.

    Attributes:
        classes_: The classes in order, of the type of y; numbers of the columns for several labels.
        model_: The network, a plain ``nn.Module`` in eval mode; it reads standardised rows.
        layers_: Its layers with every argument, None for an own module.
        history_, loss_curve_, loss_: The losses of each epoch, of the train rows, and of the last epoch.
        n_iter_, best_epoch_: Epochs that were trained, and that whose weights are kept (None: the last).
        n_features_in_, feature_names_in_, n_outputs_: Sizes and names that were seen.
        engine_: How steps were played, in words.

    Example:
        >>> import numpy as np
        >>> X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 10, axis=0)
        >>> y = ["no"] * 10 + ["yes"] * 10
        >>> NetClassifier(["Linear(8)", "ReLU()", "Linear()"], epochs=80, random_state=0).fit(X, y).predict([[1, 0], [0, 1]])
        array(['yes', 'no'], dtype='<U3')
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows.

        Args:
            X: Numbers ``(rows, features)`` or of more axes; an array, a frame, or lists.
            y: Classes ``(rows,)`` of any type, or 0 and 1 ``(rows, labels)``.
            sample_weight: How much each row counts, from 0, ``(rows,)``; a row of weight 2 counts as two rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: Data or parameters cannot be used, or training diverges.
        """
        settings = self._settings()
        rows, y = self._rows_and_target(X, y, settings)
        check_classification_targets(y)
        several = y.ndim > 1 and y.shape[1] > 1
        kind = type_of_target(y, input_name="y") if several else "one column"
        if kind == "multilabel-indicator":
            self.classes_, self._multilabel = np.arange(y.shape[1]), True
            goal = Goal("multilabel", np.asarray(y.toarray() if issparse(y) else y).astype(np.int64), y.shape[1])
        elif not several:
            classes, numbers = np.unique(column_or_1d(y, warn=True), return_inverse=True)
            self.classes_, self._multilabel = classes, False
            name = "binary" if len(classes) == FEW_CLASSES else "multiclass"
            goal = Goal(name, numbers.astype(np.int64), len(classes))
        else:
            raise EstimatorError(f"y: {kind} came; expected one column of classes, or 0 and 1 in a column for each label")
        self._learn(settings, rows, goal, sample_weight)
        return self

    def predict(self, X: Any) -> Numbers:
        """Return the most likely class of each row ``(rows,)``, or 0 and 1 ``(rows, labels)``.

        Args:
            X: Rows as in `fit`.
        """
        found = self._decoded(X)
        if self._multilabel:
            return decide_each(found)
        chosen: Numbers = self.classes_[found.argmax(axis=1)]
        return chosen

    @available_if(_probabilistic)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Numbers:
        """Return the probability of each class or label ``(rows, classes)``.

        Args:
            X: Rows as in `fit`.
        """
        return self._decoded(X)

    @available_if(_probabilistic)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Numbers:
        """Return the logarithm of the probability of each class or label ``(rows, classes)``.

        Args:
            X: Rows as in `fit`.
        """
        found = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            logarithms: Numbers = np.log(found)
        return logarithms

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn wants to know; several labels a row are welcome where the loss is not one of classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = _name_of(self.loss) not in CLASS_LOSSES
        return tags
