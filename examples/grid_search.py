"""Which layers, which learning rate? A search by scikit-learn over networks, two at a time, on 1,000 digits."""

import argparse

from sklearn.model_selection import GridSearchCV

from portnn import load_mnist
from portnn.sklearn import NetworkClassifier

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--backend", choices=["cpu", "gpu"], default="cpu")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()

(x_train, y_train), (x_test, y_test) = load_mnist()  # bytes (N, 28, 28) and digits (N,)


def rows(images):
    """Scales to [0, 1] and makes each image one row, as scikit-learn takes them: (N, 28, 28) -> (N, 784)."""
    return images.reshape(len(images), 28 * 28).astype("float32") / 255


model = NetworkClassifier(epochs=options.epochs, random_state=options.seed, backend=options.backend)
choices = {"hidden": [(50,), (100,), (100, 50)], "learning_rate": [1e-4, 1e-3, 1e-2]}
processes = 2 if options.backend == "cpu" else 1  # which share the processor; a GPU serves one
search = GridSearchCV(model, choices, cv=3, n_jobs=processes)
search.fit(rows(x_train[:1000]), y_train[:1000])  # each choice three times, with a third left out to measure it by

results = search.cv_results_
for choice, score in zip(results["params"], results["mean_test_score"], strict=True):
    print(f"hidden={choice['hidden']!s:<10} learning_rate={choice['learning_rate']:<6g}   accuracy: {score:.1%}")

digits = search.predict(rows(x_test))  # by the best choice, trained on all 1,000
print("best:", search.best_params_)
print(f"test accuracy: {(digits == y_test).mean():.1%} of {len(y_test)} digits")
print("predicted:", *digits[:10])
print("true:     ", *y_test[:10])
