"""scikit-learn: MLPClassifier and MLPRegressor with Adam, without its L2 penalty; categories one-hot."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import workloads
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from contenders.child import Predictor, Trained

warnings.filterwarnings("ignore", category=ConvergenceWarning)


def settings(task: SimpleNamespace, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Return the settings every network shares."""
    return {
        "hidden_layer_sizes": hidden,
        "batch_size": task.batch,
        "learning_rate_init": task.rate,
        "alpha": 0.0,
        "max_iter": task.epochs,
        "n_iter_no_change": task.epochs + 1,
        "random_state": task.seed,
    }


def one_hot(inputs: list[Any]) -> Any:
    """Return numbers and categories as one matrix."""
    if len(inputs) == 1:
        return inputs[0]
    numbers, codes = inputs
    parts = [np.eye(levels + 1, dtype=np.float32)[codes[:, column]] for column, levels in enumerate(workloads.LEVELS)]
    return np.concatenate([numbers, *parts], axis=1)


def train(task: SimpleNamespace, data: Any) -> Trained:
    """Train by ``partial_fit``, which is one shuffled epoch, and time each."""
    inputs, target = one_hot(data.inputs), data.target.reshape(-1).astype(int)
    model = MLPClassifier(**settings(task, (128, 64)))
    seconds = []
    for epoch in range(task.epochs):
        started = time.perf_counter()
        model.partial_fit(inputs, target, classes=np.unique(target) if epoch == 0 else None)
        seconds.append(time.perf_counter() - started)
    return Trained(seconds, lambda rows: model.predict_proba(one_hot(rows)), chances=True)


mlp = table = train


def prediction(task: SimpleNamespace, data: Any) -> Predictor:
    """Predict by ``predict``, in slices of the batch size."""
    model = MLPClassifier(**settings(task, (128, 64))).fit(data.inputs[0], data.target)

    def many(rows: Any) -> Any:
        return np.concatenate([model.predict(rows[at : at + task.batch]) for at in range(0, len(rows), task.batch)])

    return Predictor(many, model.predict)


def tutorial(task: SimpleNamespace) -> float:
    """Run the tutorial from random rows to the test loss."""
    from sklearn.model_selection import train_test_split

    generator = np.random.default_rng(task.seed)
    inputs, target = generator.random((task.rows, 10), np.float32), generator.random(task.rows, np.float32)
    x_train, x_test, y_train, y_test = train_test_split(inputs, target, test_size=0.2, random_state=task.seed)
    model = MLPRegressor(**settings(task, (32,))).fit(x_train, y_train)
    return float(np.mean((model.predict(x_test) - y_test) ** 2))


def job(task: SimpleNamespace) -> float:
    """Read a CSV file with pandas, train a pipeline, return the test accuracy."""
    import pandas as pd
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pd.read_csv(task.path)
    target = frame.pop(task.target)
    parts = train_test_split(frame, target, test_size=0.2, stratify=target, random_state=task.seed)
    x_train, x_test, y_train, y_test = parts
    numbers = make_column_selector(dtype_include="number")
    categories = make_column_selector(dtype_exclude="number")
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    prepare = make_column_transformer((StandardScaler(), numbers), (encoder, categories))
    model = make_pipeline(prepare, MLPClassifier(**settings(task, (64, 32)))).fit(x_train, y_train)
    return float(model.score(x_test, y_test))
