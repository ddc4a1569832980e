"""scikit-learn's network on MNIST, started by ``whole_job.py``."""

import json
import time
import warnings

from sklearn.neural_network import MLPClassifier

from tests.benchmarks.whole_job_data import images, task


def main() -> None:
    """Train, and print the figures."""
    asked = task()
    x, y, x_test, y_test = images(asked["folder"])
    network = MLPClassifier(
        tuple(asked["hidden"]), batch_size=asked["batch"], learning_rate_init=asked["rate"], alpha=0,
        max_iter=asked["epochs"], n_iter_no_change=asked["epochs"] + 1, random_state=0,
    )  # fmt: skip
    warnings.simplefilter("ignore")  # that it has not converged
    begin = time.perf_counter()
    network.fit(x, y)
    seconds = (time.perf_counter() - begin) / asked["epochs"]
    print(json.dumps({"epoch_s": seconds, "accuracy": 100 * network.score(x_test, y_test)}))


if __name__ == "__main__":
    main()
