"""scikit-learn estimators: NetClassifier and NetRegressor. They write no folder and compute in the dtype of X."""
