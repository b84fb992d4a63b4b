"""groups: frozen leaves bit for bit, waking, rates, resuming across the moment."""

import flax
import jax
import numpy as np
import optax
import pytest

from deepfer_jax import parallel
from deepfer_jax.errors import UserError
from deepfer_jax.runs.checkpoint import Checkpoints
from deepfer_jax.training import optim
from deepfer_jax.training.groups import Group, Groups
from deepfer_jax.training.phases import make_phase
from deepfer_jax.training.train import open_data, train_and_evaluate
from tests import small_recipe

PARAMS = {
    "stem": {
        "conv": {"kernel": np.ones(3, np.float32)},
        "norm": {"scale": np.ones(2, np.float32)},
    },
    "head": {"kernel": np.ones(5, np.float32), "bias": np.ones(1, np.float32)},
}


def test_first_match_wins_and_everything_has_a_group():
    groups = Groups((("head/.*", 1.0), (".*", 0.0)))
    phase = groups.phase(0)
    assert phase.is_trainable("head/bias")
    assert not phase.is_trainable("stem/conv/kernel")
    assert phase.is_frozen_layer("stem/norm")
    assert not phase.is_frozen_layer("head")
    trainable, frozen = phase.split(PARAMS)
    assert list(trainable) == ["head"]
    assert jax.tree.structure(phase.merge(trainable, frozen)) == jax.tree.structure(
        PARAMS
    )
    table = groups.describe(PARAMS)
    assert "6" in table.splitlines()[1]
    assert "frozen" in table.splitlines()[2]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((("head/.*", 1.0),), "no pattern matches 'stem/conv/kernel'"),
        ((("neck/.*", 1.0), (".*", 1.0)), "'neck/.*' matches no parameter"),
        (((".*", 1.0), ("head/.*", 1.0)), "'head/.*' matches no parameter"),
        (((".*", 0.0),), "nothing is trained in the first epoch"),
        (((".*", 1.0, 2),), "nothing is trained in the first epoch"),
        ((("(", 1.0),), "expected .regular expression"),
        (((".*", -1.0),), "multiplier of 0 or more"),
        ((".*",), "expected .regular expression"),
    ],
)
def test_groups_that_cannot_be(groups, message):
    with pytest.raises(UserError, match=message):
        Groups(groups).check(PARAMS)


def test_groups_wake_by_epoch():
    groups = Groups((Group("head/.*"), Group("stem/.*", 0.1, 3)))
    assert groups.phase(2).active == (0,)
    assert groups.phase(3).active == (0, 1)


def make_config(**fields):
    from configs import default

    config = default.get_config().optimizer
    config.update(
        {"clip_norm": 0.0, "weight_decay": 0.0, "learning_rate": 0.1} | fields
    )
    return config


def test_rates_are_multiplied_and_rise_when_a_group_wakes():
    config = make_config(name="sgd", momentum=0.0, group_warmup_epochs=0.5)
    groups = Groups((Group("head/.*"), Group("stem/.*", 0.5, 1)))
    schedule = optax.linear_schedule(1.0, 0.0, 100)
    phase = groups.phase(1)
    optimizer = optim.create_optimizer(config, schedule, phase, steps_per_epoch=8)
    state = optimizer.init(phase.split(PARAMS)[0])
    ones = jax.tree.map(np.ones_like, PARAMS)
    update = jax.jit(optimizer.update)
    for step in range(6):
        updates, state = update(ones, state, PARAMS)
        # The stem's own count began with epoch 1, that is step 8 of the run.
        rise = min(1, (step + 1) / 4)
        expected = -0.5 * rise * schedule(8 + step)
        np.testing.assert_allclose(
            updates["stem"]["conv"]["kernel"], expected, rtol=1e-5
        )
        np.testing.assert_allclose(updates["head"]["bias"], -schedule(step), rtol=1e-5)


def test_one_group_has_its_rate_too():
    config = make_config(name="sgd", momentum=0.0)
    phase = Groups((Group(".*", 0.5),)).phase(0)
    optimizer = optim.create_optimizer(config, optax.constant_schedule(1.0), phase, 8)
    ones = jax.tree.map(np.ones_like, PARAMS)
    updates, _ = optimizer.update(ones, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["head"]["bias"], -0.5)


def test_clipping_is_of_all_groups_together():
    config = make_config(name="sgd", momentum=0.0, clip_norm=1.0)
    groups = Groups((Group("head/.*"), Group("stem/.*")))
    schedule = optax.constant_schedule(1.0)
    optimizer = optim.create_optimizer(config, schedule, groups.phase(0), 8)
    grads = jax.tree.map(lambda x: np.float32(3) * x, PARAMS)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(PARAMS), PARAMS)
    assert optax.tree.norm(updates) == pytest.approx(1.0, rel=1e-5)


def test_live_slots_are_carried_over_when_a_group_wakes():
    config = make_config(name="adamw")
    groups = Groups((Group("head/.*"), Group("stem/.*", 1.0, 1)))
    schedule = optax.constant_schedule(0.1)
    first, second = groups.phase(0), groups.phase(1)
    optimizer = optim.create_optimizer(config, schedule, first, 8)
    head = first.split(PARAMS)[0]
    state = optimizer.init(head)
    assert sum(x.size for x in jax.tree.leaves(state)) < 2 * 6 + 4  # of the head alone
    update = jax.jit(optimizer.update)
    for _ in range(3):
        _, state = update(head, state, head)
    optimizer = optim.create_optimizer(config, schedule, second, 8)
    new = optim.carry_over(optimizer.init(PARAMS), state)
    old = {jax.tree_util.keystr(p): x for p, x in jax.tree.leaves_with_path(state)}
    fresh = 0
    for path, x in jax.tree.leaves_with_path(new):
        name = jax.tree_util.keystr(path)
        if name in old:
            np.testing.assert_array_equal(x, old[name])
        else:
            fresh += 1
            assert not np.asarray(x).any()
    assert fresh >= 2 * 2
    assert len(old) < len(jax.tree.leaves(new))


def small(data_dir, groups, num_epochs=1, **optimizer):
    config = small_recipe.get_config()
    config.dataset.data_dir = data_dir
    config.train.num_epochs = num_epochs
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.update({"groups": groups} | optimizer)
    return config


def flat(workdir):
    """Parameters and batch statistics of the newest checkpoint, by path."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore_arrays(checkpoints.newest())
    variables = {name: state[name] for name in ("params", "batch_stats")}
    return flax.traverse_util.flatten_dict(variables, sep="/")


def test_frozen_leaves_stay_bit_for_bit_over_ten_steps(small_data_dir, tmp_path):
    """280 faces in batches of 28: ten steps, from the weights of another run."""
    source = small(small_data_dir, ())
    train_and_evaluate(source, tmp_path / "source")
    config = small(small_data_dir, (("(head|stage2)/.*", 1.0), (".*", 0.0)))
    config.model.init_from = str(tmp_path / "source")
    train_and_evaluate(config, tmp_path / "frozen")
    old, new = flat(tmp_path / "source"), flat(tmp_path / "frozen")
    assert old.keys() == new.keys()
    for path, x in old.items():
        same = np.array_equal(x, new[path])
        is_frozen = "/stem/" in path or "/stage1/" in path
        assert same == is_frozen, path


def test_a_run_resumes_across_the_moment_of_waking(small_data_dir, tmp_path):
    groups = (("head/.*", 1.0), (".*", 0.3, 2))

    def run(workdir, *lengths):
        """What there is after each of these numbers of epochs."""
        for num_epochs in lengths:
            config = small(
                small_data_dir, groups, 4, group_warmup_epochs=0.5, schedule="constant"
            )
            config.train.num_epochs = num_epochs
            train_and_evaluate(config, workdir)
            yield flat(workdir)

    (whole,) = run(tmp_path / "whole", 4)
    two, *_, last = run(tmp_path / "2-4", 2, 4)
    one, *_, other = run(tmp_path / "1-3-4", 1, 3, 4)
    for parts in (last, other):
        for path, x in whole.items():
            np.testing.assert_array_equal(x, parts[path], err_msg=path)
    stem = "params/stem/conv/kernel"
    np.testing.assert_array_equal(one[stem], two[stem])
    assert not np.array_equal(two[stem], whole[stem])


def test_frozen_groups_cost_no_gradient(small_data_dir):
    """A step that trains the head alone is little more than a forward pass."""
    flops = {}
    for name, groups in (
        ("all", ()),
        ("last", (("(head|stage2)/.*", 1.0), (".*", 0.0))),
        ("head", (("head/.*", 1.0), (".*", 0.0))),
    ):
        config = small(small_data_dir, groups)
        train_data, _ = open_data(config)
        phase = Groups(config.optimizer.groups).phase(0)
        init, run_steps = make_phase(config, train_data, phase)
        state = parallel.replicate(init())
        resident, inputs = next(iter(train_data.epoch(0, 0, 1)))
        lowered = run_steps.lower(state, resident, inputs)
        flops[name] = lowered.compile().cost_analysis()["flops"]
        num_slots = sum(x.size for x in jax.tree.leaves(state.opt_state))
        trained, _ = phase.split(state.params)
        # AdamW: two slots a parameter, and counters.
        num_trained = sum(x.size for x in jax.tree.leaves(trained))
        assert 0 <= num_slots - 2 * num_trained < 10
    assert flops["head"] < 0.45 * flops["all"]
    assert flops["head"] < flops["last"] < 0.8 * flops["all"]


def test_sam_keeps_frozen_leaves_and_wakes_them_later(small_data_dir, tmp_path):
    """Sharpness-aware steps climb and descend in what is active alone."""
    groups = (("head/.*", 1.0), (".*", 0.3, 1))

    def run(workdir, *lengths):
        for num_epochs in lengths:
            config = small(small_data_dir, groups, sam_rho=0.05, schedule="constant")
            config.train.num_epochs = num_epochs
            train_and_evaluate(config, workdir)
        return flat(workdir)

    one, two = run(tmp_path / "run", 1), run(tmp_path / "run", 2)
    whole = run(tmp_path / "whole", 2)
    for path, x in whole.items():
        np.testing.assert_array_equal(x, two[path], err_msg=path)
    assert not np.array_equal(
        one["params/stem/conv/kernel"], two["params/stem/conv/kernel"]
    )
