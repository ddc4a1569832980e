"""JAX: one process, a jitted step, or the loop over the steps jitted as a whole."""

import importlib
from typing import Any

from tests.benchmarks.work import Layers, Task, measure

TASK = Task.given()
jax: Any = importlib.import_module("jax")  # in an environment of its own, so no types here
jnp: Any = importlib.import_module("jax.numpy")


def loss_of(params: Any, x: Any, y: Any) -> Any:
    """Return the mean loss of a batch."""
    for i, (w, b) in enumerate(params):
        x = (jax.nn.relu(x) if i else x) @ w + b
    if TASK.work.linear:
        return jnp.mean((x - y) ** 2)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1))


def update(params: Any, x: Any, y: Any) -> Any:
    """Return the parameters after a step."""
    grads = jax.grad(loss_of)(params, x, y)
    return jax.tree.map(lambda p, g: p - TASK.work.rate * g, params, grads)


def main() -> None:
    """Do what the runner asks for."""
    batches = TASK.work.batches
    x, y = TASK.rows()
    xs, ys = jnp.asarray(x), jnp.asarray(y if TASK.work.linear else y.astype("int32"))
    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in TASK.layers()]

    def many(params: Any, steps: Any, xs: Any, ys: Any) -> Any:
        return jax.lax.fori_loop(0, steps, lambda k, p: update(p, xs[k % batches], ys[k % batches]), params)

    loop, step = jax.jit(many, donate_argnums=0), jax.jit(update, donate_argnums=0)
    each = list(zip(xs, ys, strict=True)) if TASK.variant == "jit" else []

    def run(steps: int) -> None:
        nonlocal params
        if TASK.variant == "loop":
            params = loop(params, steps, xs, ys)
        else:
            for k in range(steps):
                params = step(params, *each[k % batches])
        jax.block_until_ready(params)

    def layers() -> Layers:
        return list(params)

    measure(TASK, run, layers, versions={"jax": jax.__version__})


if __name__ == "__main__":
    main()
