"""The state of a training run: everything a checkpoint has to hold, and nothing else.

    state = create_state(model, optimizer, image_shape=(48, 48, 1), seed=0, ema=True)
    logits = model.apply(eval_variables(state), images)

There is no random key in it: the keys of a step are a function of (seed, step,
example).
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from deepfer_jax.keys import init_key
from deepfer_jax.training.groups import Phase


class TrainState(flax.struct.PyTreeNode):
    """step counts finished updates; ema is {params, batch_stats}, or {} when off."""

    step: jax.Array
    params: Any
    batch_stats: Any
    ema: Any
    opt_state: optax.OptState


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    seed: int,
    ema: bool,
    phase: Phase,
) -> TrainState:
    """Draws initial parameters, a function of `seed` alone.

    Args:
      model: a network of deepfer_jax.models.
      optimizer: its slots are created.
      image_shape: (height, width, channels) of one face.
      seed: any integer.
      ema: whether a moving average is kept.
      phase: slots are created for its active groups.
    """

    @jax.jit
    def init() -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        variables = model.init(init_key(seed), images)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            ema={"params": params, "batch_stats": batch_stats} if ema else {},
            opt_state=optimizer.init(phase.split(params)[0]),
        )

    return init()


def with_variables(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """Starts a new state from other {params, batch_stats}, its average too."""
    # Copies, since a step that is donated one buffer twice fails.
    ema = jax.tree.map(jnp.copy, variables) if state.ema else {}
    return state.replace(**variables, ema=ema)


def eval_variables(state: TrainState) -> dict[str, Any]:
    """Variables to evaluate and export: the moving average where there is one."""
    return state.ema or {"params": state.params, "batch_stats": state.batch_stats}
