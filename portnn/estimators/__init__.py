"""The estimators of ``portnn.sklearn``. Their modules import scikit-learn, but for ``building`` and ``blocks``.

``building`` makes a network of an estimator's arguments, ``data`` checks and divides what ``fit`` is given, ``blocks``
predicts, and ``base`` has what classifier and regressor share.
"""
