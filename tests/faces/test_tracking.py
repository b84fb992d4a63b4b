"""faces.tracking: identities, and labels that do not flicker."""

import itertools

import numpy as np

from deepfer_jax.faces.face import Face
from deepfer_jax.faces.tracking import Tracker
from deepfer_jax.inference import name_class

CLASSES = ("angry", "happy", "neutral")


def face(left, top, probabilities=(0.1, 0.2, 0.7), side=40.0):
    box = np.array([left, top, left + side, top + side], np.float32)
    probabilities = np.asarray(probabilities, np.float32)
    named = name_class(probabilities, CLASSES, 0.5)
    return Face(box, 0.9, np.zeros((6, 2), np.float32), **named._asdict())


def numbers(faces):
    return [face.track for face in faces]


def test_faces_keep_their_numbers_while_they_move_and_swap_places_in_the_list():
    tracker = Tracker(CLASSES, 0.5)
    assert numbers(tracker.update([face(0, 0), face(100, 0)], 0.0)) == [1, 2]
    for step in range(1, 20):
        moved = [face(100 - 4 * step, 60 * step / 20), face(4 * step, 0)]
        assert numbers(tracker.update(moved, step / 25)) == [2, 1]


def test_a_face_that_comes_again_soon_is_the_same_and_later_another():
    tracker = Tracker(CLASSES, 0.5, lost_after=0.5, max_missed=0)
    tracker.update([face(0, 0)], 0.0)
    assert tracker.update([], 0.2) == []
    assert numbers(tracker.update([face(2, 2)], 0.4)) == [1]
    assert numbers(tracker.update([face(2, 2)], 1.0)) == [2]
    assert numbers(tracker.update([face(200, 2)], 1.1)) == [3]


def test_a_face_that_is_missed_for_two_frames_is_carried_on():
    tracker = Tracker(CLASSES, 0.5)
    first, other = tracker.update([face(0, 0), face(100, 0)], 0.0)
    for frame, expected in enumerate(([1, 2], [1, 2], [1]), start=1):
        found = tracker.update([face(0, 0)], frame / 25)
        assert numbers(found) == expected
    np.testing.assert_array_equal(other.box, face(100, 0).box)
    # It comes again, and is missed anew.
    assert numbers(tracker.update([face(0, 0), face(104, 0)], 4 / 25)) == [1, 2]
    (_, carried) = tracker.update([face(0, 0)], 5 / 25)
    np.testing.assert_array_equal(carried.box, face(104, 0).box)
    assert numbers(tracker.update([face(0, 0), face(104, 0)], 6 / 25)) == [1, 2]
    assert first.track == 1


def test_no_face_is_carried_on_where_another_has_come():
    tracker = Tracker(CLASSES, 0.5)
    tracker.update([face(0, 0), face(30, 0)], 0.0)
    assert numbers(tracker.update([face(12, 0)], 0.04)) == [1]


def test_smoothing_depends_on_time_not_on_the_number_of_frames():
    """After the time constant 1 - 1/e of a step is followed, at any frame rate."""
    for rate in (5, 10, 30):
        tracker = Tracker(CLASSES, 0.5, time_constant=0.4)
        tracker.update([face(0, 0, (1, 0, 0))], 0.0)
        for i in range(1, round(0.4 * rate) + 1):
            (tracked,) = tracker.update([face(0, 0, (0, 1, 0))], i / rate)
        found = tracked.probabilities
        np.testing.assert_allclose(found, [np.exp(-1), 1 - np.exp(-1), 0], atol=1e-6)
        assert tracked.label == "happy"


def test_without_smoothing_faces_are_as_they_were_found():
    tracker = Tracker(CLASSES, 0.5, time_constant=0.0)
    tracker.update([face(0, 0, (1, 0, 0))], 0.0)
    new = face(1, 1, (0, 0.45, 0.3))
    (tracked,) = tracker.update([new], 0.04)
    assert tracked.probabilities is new.probabilities
    assert (tracked.track, tracked.unsure) == (1, True)


def changes_a_second(time_constant, seconds=60, rate=25):
    """Label changes of a still face between two emotions, with noise."""
    rng = np.random.default_rng(0)
    tracker, labels = Tracker(CLASSES, 0.5, time_constant), []
    for i in range(seconds * rate):
        logits = np.array([0.0, 1.0, 1.2]) + rng.normal(0, 0.5, 3)
        probabilities = np.exp(logits) / np.exp(logits).sum()
        place = rng.normal(0, 1, 2)
        (tracked,) = tracker.update([face(*place, probabilities)], i / rate)
        assert tracked.track == 1
        labels.append(tracked.label)
    return sum(a != b for a, b in itertools.pairwise(labels)) / seconds


def test_labels_do_not_flicker():
    before, after = changes_a_second(0.0), changes_a_second(0.4)
    assert before > 5
    assert after < before / 8


def test_of_another_picture_nothing_is_kept():
    tracker = Tracker(CLASSES, 0.5)
    tracker.update([face(0, 0)], 0.0)
    tracker.forget()
    assert numbers(tracker.update([face(0, 0)], 0.04)) == [2]
