"""NetRegressor: one value a row or several. Floor 17."""

from __future__ import annotations

from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from netwright.estimators.estimator import Net
from netwright.estimators.networks import Goal

Numbers = npt.NDArray[Any]
TWO_AXES = 2


@final
class NetRegressor(RegressorMixin, Net):  # type: ignore[misc]
    """A neural network that learns values; see `Net` for its parameters and `NetClassifier` for its attributes.

    The loss is MSELoss where ``loss`` does not say otherwise, of a target of mean 0 and deviation 1; predictions come in
    the units of y. PoissonNLLLoss reads plain counts.

    Example:
        >>> import numpy as np
        >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
        >>> net = NetRegressor(["Linear(16)", "ReLU()", "Linear()"], epochs=300, random_state=0).fit(X, 100 * X[:, 0])
        >>> bool(abs(net.predict([[0.5]])[0] - 50) < 10)
        True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from rows.

        Args:
            X: Numbers ``(rows, features)`` or of more axes; an array, a frame, or lists.
            y: Values ``(rows,)`` or ``(rows, outputs)``.
            sample_weight: How much each row counts, from 0, ``(rows,)``; a row of weight 2 counts as two rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: Data or parameters cannot be used, or training diverges.
        """
        settings = self._settings()
        rows, y = self._rows_and_target(X, y, settings, y_numeric=True)
        if y.ndim == TWO_AXES and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        values = np.array(y, dtype=np.float64).reshape(len(y), -1)
        self._columns = None if y.ndim == 1 else values.shape[1]
        self._learn(settings, rows, Goal("regression", values, columns=values.shape[1]), sample_weight)
        return self

    def predict(self, X: Any) -> Numbers:
        """Return values ``(rows,)`` or ``(rows, outputs)`` in the units of y, float64.

        Args:
            X: Rows as in `fit`.
        """
        found = self._decoded(X)
        return found[:, 0] if self._columns is None else found

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn wants to know; several outputs are welcome."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
