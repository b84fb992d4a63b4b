"""Every configuration field once, with its default. Recipes change a few of them.

A recipe is a file beside this one whose `get_config()` starts from
`default.get_config()`; any field can also be set on the command line,
`--config.train.num_epochs=3`. The configuration is locked: an unknown field is an
error.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()

    # Fixes everything drawn at random: initial weights, order of the faces,
    # augmentation, dropout.
    config.seed = 0

    config.dataset = dataset = ConfigDict()
    # A name of deepfer_jax.data.datasets.BUILDERS, or "name/builder_config".
    dataset.name = "synthetic_faces"
    # Where scripts/prepare_data.py wrote it.
    dataset.data_dir = "data"
    dataset.train_split = "train"
    # Epochs are chosen on this split: never the one whose accuracy is reported.
    dataset.validation_split = "validation"
    # Train without the faces that, pixel for pixel, are also in another split.
    dataset.exclude_test_copies = False
    # "resident": the split lives on the device as uint8, an epoch's order is made
    # there. "tf.data": TFDS -> shuffle -> batch -> prefetch, for data larger than
    # memory.
    dataset.pipeline = "resident"
    # Examples in tf.data's shuffle buffer (cut to the size of the split).
    dataset.shuffle_buffer = 50_000

    config.model = model = ConfigDict()
    # A name of deepfer_jax.models.MODELS.
    model.name = "tiny"
    # "float32" or "bfloat16" arithmetic; parameters are float32 either way.
    model.dtype = "float32"
    # Dropout before the classifier; 0 is off.
    model.dropout_rate = 0.0
    # A training run or an exported model to start from, or "". Its head is taken too if
    # it has the same classes.
    model.init_from = ""
    # Weights that scripts/port_weights.py wrote, or ""; the head is new.
    model.pretrained = ""
    # Further arguments of that model's constructor, such as {"stem": "small"}.
    model.options = ConfigDict()
    # Faces are resized to this height and width, and gray ones repeated to so many
    # channels, on the device; 0 leaves them as they are.
    model.input_size = 0
    model.input_channels = 0
    # Pixels are divided by 255, then normalised: "dataset", by mean and std below
    # (FER2013's own, one value a channel); "face", each face by its own mean and
    # deviation.
    model.normalization = "dataset"
    model.mean = (0.508,)
    model.std = (0.255,)

    config.augment = augment = ConfigDict()
    # Each operation acts within its strength, drawn for every face; 0 turns it off.
    # Probability of mirroring left and right.
    augment.flip = 0.0
    # Largest angle, in degrees either way.
    augment.rotation = 0.0
    # Largest relative change of size: 0.1 for 0.9 to 1.1 times.
    augment.scale = 0.0
    # Largest shift, as a fraction of height and width.
    augment.shift = 0.0
    # Largest shear, as a fraction.
    augment.shear = 0.0
    # Probability of a crop as a face detector delivers it, whose scale and shift take
    # the place of those above; and of a face of 24 pixels or more, made larger.
    augment.framing = 0.0
    # Pixels by which edges are padded before a crop of the old size.
    augment.crop = 0
    # Largest amount added to or taken from pixels in [0, 1].
    augment.brightness = 0.0
    # Largest relative change of contrast, and of the exponent of gamma.
    augment.contrast = 0.0
    augment.gamma = 0.0
    # Probability of a blur, by exponential kernels of a width of up to 2 pixels.
    augment.blur = 0.0
    # Probability of filling a rectangle with noise.
    augment.erasing = 0.0
    # Probability of hiding what lies beyond a line.
    augment.cover = 0.0
    # Probability of uniform, multiplied, or salt-and-pepper noise.
    augment.noise = 0.0
    # Beta distributions of mixup and cutmix; both on: one of them at random.
    augment.mixup_alpha = 0.0
    augment.cutmix_alpha = 0.0

    config.loss = loss = ConfigDict()
    loss.label_smoothing = 0.0
    # "none"; "balanced" weighs a class by 1 / its frequency; "sqrt_balanced" by the
    # root.
    loss.class_weights = "none"

    config.distill = distill = ConfigDict()
    # Training runs or exported models of the same classes, whose averaged probabilities
    # the network is taught; () is none.
    distill.teachers = ()
    # Share of the teachers in the loss; the labels have the rest.
    distill.weight = 1.0
    # By which logits of both sides are divided.
    distill.temperature = 1.0
    # True asks the teachers once about each face, before training, so that a small
    # network trains at its own speed; False about every augmented view of it.
    distill.fixed = False

    config.optimizer = optimizer = ConfigDict()
    # "sgd" (Nesterov momentum) or "adamw".
    optimizer.name = "adamw"
    # Highest learning rate of the schedule, for train.batch_size as it stands.
    optimizer.learning_rate = 2e-3
    # "cosine", "linear", "one_cycle", "step" or "constant".
    optimizer.schedule = "cosine"
    # Linear rise from 0, in epochs (fractions too). One-cycle: the rising part.
    optimizer.warmup_epochs = 1.0
    # "step": the rate is multiplied by step_factor after these fractions of the run.
    optimizer.step_fractions = (0.5, 0.75)
    optimizer.step_factor = 0.1
    # SGD's momentum; AdamW's first and second decay rates.
    optimizer.momentum = 0.9
    optimizer.b1 = 0.9
    optimizer.b2 = 0.999
    # On kernels only, never on biases or normalisation. SGD: added to the gradient;
    # AdamW: decoupled.
    optimizer.weight_decay = 0.05
    # Gradients are scaled down to this global norm; 0 is off.
    optimizer.clip_norm = 1.0
    # Sharpness-aware minimisation: the gradient is taken this far up the slope (0.05 is
    # usual), at twice the cost of a step; 0 is off.
    optimizer.sam_rho = 0.0
    # Parameter groups, (regular expression of the path, multiplier of the rate[, epoch
    # from which it trains]); the first match has a parameter, 0 freezes. () is one
    # group. E.g. (("head/.*", 1.0), ("stage4/.*", 0.3, 2), (".*", 0.0)).
    optimizer.groups = ()
    # Linear rise of a group's rate once it is unfrozen, in epochs.
    optimizer.group_warmup_epochs = 0.0

    config.train = train = ConfigDict()
    # Faces a step, over all devices together.
    train.batch_size = 64
    train.num_epochs = 10
    # Exponential moving average of parameters and batch statistics, used for
    # validation, evaluation and export; 0 is off.
    train.ema_decay = 0.0
    # Most steps in one call of the compiled program, of which an epoch has a whole
    # number; 0 chooses: 1 on a CPU, 20 elsewhere.
    train.steps_per_call = 0
    # A line of metrics.jsonl averages this many steps.
    train.log_every_steps = 50
    # Validate and checkpoint after every so many epochs, and after the last.
    train.validate_every_epochs = 1
    # Also checkpoint within an epoch, every so many steps; 0: at the end of epochs
    # only.
    train.checkpoint_every_steps = 0
    # (first, last) step of a jax.profiler trace, written to WORKDIR/profile; () is off.
    train.profile_steps = ()

    config.evaluation = evaluation = ConfigDict()
    # Faces a call, over all devices together.
    evaluation.batch_size = 256

    return config
