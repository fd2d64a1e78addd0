"""The estimators of ``portnn.sklearn``. The modules ``base``, ``data`` and those of the two classes import scikit-learn.

``building`` makes a network of an estimator's arguments, ``data`` checks and divides what ``fit`` is given, ``blocks``
predicts, and ``base`` has what classifier and regressor share.
"""
