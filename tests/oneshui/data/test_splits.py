from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.golden import load_json

from oneshui.data.splits import SET_NAMES, make_split, require_shared_labels
from oneshui.errors import InputError
from oneshui.seeding import python_random

PARTS = ("train", "val", "test", "forget", "retain", "support")


@pytest.mark.parametrize("name", ["split_dict", "split_list", "split_list_gaps"])
@pytest.mark.parametrize("walk", ["reference", "corrected"])
def test_equals_the_golden_splits(name: str, walk: str) -> None:
    document = load_json(name)
    identity = np.array(document["identity_of_image"])
    first_appearance = list(dict.fromkeys(identity.tolist()))
    order = first_appearance if name == "split_dict" else list(range(identity.max() + 1))
    for run in document["runs"]:
        split = make_split(
            identity,
            order,
            num_forget=run["num_identities"],
            seed=run["python_random_seed"],
            walk=walk,  # type: ignore[arg-type]
        )
        expected = run if walk == "reference" else run["corrected_walk"]
        for part in PARTS if walk == "reference" else PARTS[:3]:
            assert list(getattr(split, part)) == expected[part]


@st.composite
def datasets(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    counts = draw(st.lists(st.integers(2, 9), min_size=30, max_size=60))
    identity = np.repeat(np.arange(len(counts)), counts)
    shuffled = np.random.default_rng(draw(st.integers(0, 99))).permutation(identity)
    return shuffled, draw(st.integers(2, 5)), draw(st.integers(0, 2**31))


@given(datasets())
@settings(max_examples=60, deadline=None)
def test_no_image_is_in_two_sets_and_support_is_in_none(
    dataset: tuple[np.ndarray, int, int],
) -> None:
    identity, num_forget, seed = dataset
    split = make_split(identity, range(identity.max() + 1), num_forget=num_forget, seed=seed)
    rows = np.concatenate([split.images(name) for name in SET_NAMES])
    assert sorted(rows.tolist()) == list(range(len(identity)))
    trained_on = set(split.images("train").tolist())
    assert not trained_on & set(split.support)
    assert trained_on == {*split.images("forget").tolist(), *split.images("retain").tolist()}
    for name in ("train", "val", "test", "forget", "retain"):
        allowed = set(getattr(split, name))
        assert set(identity[split.images(name)].tolist()) <= allowed
    assert len(split.forget) == len(split.support) == num_forget


@given(datasets())
@settings(max_examples=30, deadline=None)
def test_requests_are_nested_and_sets_do_not_depend_on_their_size(
    dataset: tuple[np.ndarray, int, int],
) -> None:
    identity, num_forget, seed = dataset
    order = range(identity.max() + 1)
    small = make_split(identity, order, num_forget=num_forget, seed=seed)
    large = make_split(identity, order, num_forget=num_forget + 1, seed=seed)
    assert large.forget[:num_forget] == small.forget
    assert large.support[:num_forget] == small.support
    assert (large.train, large.val, large.test) == (small.train, small.val, small.test)
    assert large.fingerprint != small.fingerprint


def test_another_support_seed_changes_the_pictures_and_nothing_else() -> None:
    identity = np.repeat(np.arange(30), 8)
    splits = [
        make_split(identity, range(30), num_forget=6, seed=1, support_seed=seed)
        for seed in (None, 1, 2)
    ]
    assert splits[0].support == splits[1].support
    assert splits[2].forget == splits[0].forget
    assert splits[2].support != splits[0].support


@pytest.mark.parametrize("num_forget", [0, 19, 10_000])
def test_refuses_a_forget_size_that_cannot_be(num_forget: int) -> None:
    identity = np.repeat(np.arange(30), 4)
    with pytest.raises(InputError, match=f"forget size {num_forget}"):
        make_split(identity, range(30), num_forget=num_forget, seed=0)


@given(datasets())
@settings(max_examples=30, deadline=None)
def test_people_may_be_named_who_alone_are_forgotten_the_first_first(
    dataset: tuple[np.ndarray, int, int],
) -> None:
    identity, num_forget, seed = dataset
    order = range(identity.max() + 1)
    drawn = make_split(identity, order, num_forget=num_forget, seed=seed)
    # The same people the other way round, and one of them who is not trained on here.
    named = [drawn.test[0], *reversed(drawn.forget)]
    split = make_split(identity, order, num_forget=num_forget, seed=seed, among=named)
    assert split.forget == tuple(reversed(drawn.forget))
    assert (split.train, split.val, split.test) == (drawn.train, drawn.val, drawn.test)
    assert [int(identity[image]) for image in split.support] == list(split.forget)
    assert sorted(split.retain) == sorted(drawn.retain)


def test_too_few_of_those_who_alone_may_be_forgotten_are_counted() -> None:
    identity = np.repeat(np.arange(30), 4)
    drawn = make_split(identity, range(30), num_forget=6, seed=1)
    named = (*drawn.forget[:3], *drawn.test)
    with pytest.raises(
        InputError, match=rf"of the {len(named)} of the pool only 3 .*raise sweep\.audit\.pool"
    ):
        make_split(identity, range(30), num_forget=4, seed=1, among=named)


def test_requests_of_one_drawing_are_everybody_in_it_once() -> None:
    identity = np.repeat(np.arange(30), 4)
    drawn = make_split(identity, range(30), num_forget=6, seed=1)
    requests = [drawn.request(number, 2) for number in range(3)]
    assert sum((request.forget for request in requests), ()) == drawn.forget
    assert sum((request.support for request in requests), ()) == drawn.support
    for number, request in enumerate(requests):
        assert request.retain == drawn.retain
        assert (request.val, request.test) == (drawn.val, drawn.test)
        others = {*drawn.forget} - {*drawn.forget[2 * number :][:2]}
        # Neither in D_f nor in D_r, and with all of their pictures.
        assert {*drawn.train} - {*request.train} == others
        rows = [*(request.images(name) for name in SET_NAMES), request.images("train")]
        seen = np.concatenate(rows)
        assert not others & set(identity[seen].tolist())
    # A request by itself is the first of the drawing.
    alone = make_split(identity, range(30), num_forget=2, seed=1)
    assert (alone.forget, alone.support) == (requests[0].forget, requests[0].support)
    for number, num_forget in ((3, 2), (1, 4)):
        with pytest.raises(InputError, match=f"request {number} of {num_forget} identities"):
            drawn.request(number, num_forget)


def test_people_who_ask_one_after_the_other_leave_one_after_the_other() -> None:
    identity = np.repeat(np.arange(20), 3)
    whole = make_split(identity, list(range(20)), num_forget=4, seed=0)
    a, b, c, d = whole.forget
    now = whole.part([c, b], [a])
    assert now.forget == (b, c), "in the order of the drawing"
    assert now.support == whole.support[1:3]
    assert now.retain == (*whole.retain, d)
    assert set(now.train) == {*whole.train} - {a}
    support = set(whole.support)
    assert set(now.withheld) == {whole.support[0], whole.support[3]}
    for name in ("train", "retain", "forget", "val", "test"):
        assert not support & set(now.images(name).tolist()), name
    kept = {int(identity[row]) for row in now.images("retain")}
    assert kept == {*whole.retain, d}
    first = whole.part([a])
    assert len({whole.fingerprint, now.fingerprint, first.fingerprint}) == 3
    assert whole.part(whole.forget).fingerprint == whole.fingerprint
    for asking, gone in (([], []), ([a], [a]), ([whole.retain[0]], []), ([a], [whole.retain[0]])):
        with pytest.raises(InputError, match="asks once"):
            whole.part(asking, gone)


def test_a_single_forget_identity_needs_six_images() -> None:
    identity = np.repeat(np.arange(30), 5)
    with pytest.raises(InputError, match="6 images"):
        make_split(identity, range(30), num_forget=1, seed=0)


def test_leaves_python_s_random_state_where_the_reference_leaves_it() -> None:
    document = load_json("split_dict")
    run = document["runs"][0]
    stream = python_random(run["python_random_seed"])
    identity_of_image = document["identity_of_image"]
    identities = list(dict.fromkeys(identity_of_image))
    for _ in range(2):
        order = list(identities)
        stream.shuffle(order)
    wanted = run["forget"][0]
    rows = [row for row, identity in enumerate(identity_of_image) if identity == wanted]
    assert stream.sample(rows, 1) == run["support"]
    assert stream.random() == run["next_random_random"]


def test_identities_without_images_take_part_in_both_shuffles_and_are_never_chosen() -> None:
    # Only the even ones of 40 have images.
    split = make_split(np.repeat(np.arange(0, 40, 2), 3), range(40), num_forget=4, seed=0)
    stream = python_random(0)
    first, second = list(range(40)), list(range(40))
    stream.shuffle(first)
    stream.shuffle(second)
    assert [*split.val, *split.test, *split.train] == first
    chosen = [identity for identity in second if identity in split.train and identity % 2 == 0]
    assert list(split.forget) == chosen[:4]
    assert set(split.retain) == set(split.train) - set(split.forget)


def is_balanced(identity: np.ndarray, parts: Sequence[Sequence[int]]) -> bool:
    """Whether no set is empty, or above its share by more than one of its people's images."""
    for part, share in zip(parts, (0.2, 0.2, 0.6), strict=True):
        counts = [int((identity == person).sum()) for person in part]
        if not sum(counts) or sum(counts) - max(counts) > share * len(identity):
            return False
    return True


def skewed_tables(number: int, heavy: bool) -> Iterator[tuple[np.ndarray, int, int]]:
    """(identity, people, seed): a third of the people without images, or heavy tails."""
    for seed in range(number):
        generator = np.random.default_rng(seed)
        people = int(generator.integers(5, 60))
        if heavy:
            counts = np.minimum(2 + 2 * generator.pareto(0.8, people), 400).astype(int)
        else:
            counts = generator.integers(2, 12, people) * (generator.random(people) > 0.35)
        yield np.repeat(np.arange(people), counts), people, seed


@pytest.mark.parametrize("heavy", [False, True])
def test_the_corrected_walk_is_above_no_share_by_more_than_one_person(heavy: bool) -> None:
    for identity, people, seed in skewed_tables(400, heavy):
        try:
            split = make_split(identity, range(people), num_forget=1, seed=seed, walk="corrected")
        except InputError as error:
            few = len(set(identity.tolist())) < 3
            # Three people with images can be parted, whoever they are.
            assert ("are too few" if few else "forget size 1 is too large") in str(error)  # noqa: PT017
            continue
        assert is_balanced(identity, (split.val, split.test, split.train)), seed
        first = list(range(people))
        python_random(seed).shuffle(first)
        assert [*split.val, *split.test, *split.train] == first


@pytest.mark.parametrize("heavy", [False, True])
def test_the_authors_walk_ends_in_a_split_or_in_a_sentence(heavy: bool) -> None:
    lost = 0
    for identity, people, seed in skewed_tables(400, heavy):
        try:
            make_split(identity, range(people), num_forget=1, seed=seed)
        except InputError as error:
            lost += "say walk=corrected" in str(error)
    assert lost > 5


def test_a_split_that_is_far_off_says_so() -> None:
    # One of 30 people has half of all images, wherever the shuffle puts him.
    identity = np.repeat(np.arange(30), [4] * 29 + [116])
    told = {}
    for seed in range(12):
        split = make_split(identity, range(30), num_forget=2, seed=seed, walk="corrected")
        shares = [
            len(np.flatnonzero(np.isin(identity, part))) / len(identity)
            for part in (split.val, split.test, split.train)
        ]
        off = max(abs(share - meant) for share, meant in zip(shares, (0.2, 0.2, 0.6), strict=True))
        assert bool(split.uneven) == (off > 0.15)
        told[seed] = split.uneven
    assert any(told.values())
    assert not all(told.values())
    number = r"\d+"
    sentence = next(filter(None, told.values()))
    assert re.match(
        rf"the sets hold val {number}, test {number}, train {number} % of the", sentence
    )


@pytest.mark.parametrize("walk", ["reference", "corrected"])
def test_two_people_are_too_few(walk: Any) -> None:
    with pytest.raises(InputError, match=r"^2 identities with images are too few"):
        make_split(np.array([0, 0, 7, 7, 7]), range(9), num_forget=1, seed=0, walk=walk)


@pytest.mark.parametrize("walk", ["reference", "corrected"])
def test_boundaries_lie_where_a_plain_walk_puts_them(walk: Any) -> None:
    def taken(queue: list[int], share: float) -> int:
        """Identities in front of the boundary, which begins at the share of identities."""
        wanted = share * sum(counts[i] for i in queue)
        number = int(share * len(queue))
        held = sum(counts[i] for i in queue[:number])
        if held <= wanted:
            while held <= wanted:
                held += counts[queue[number]]
                number += 1
            return number
        while held > wanted:
            number -= 1
            held -= counts[queue[number]] if walk == "corrected" else counts[queue[number - 1]]
        return number

    differing = 0
    for seed in range(40):
        counts = np.random.default_rng(seed).integers(2, 30, size=25).tolist()
        queue = list(range(25))
        python_random(seed).shuffle(queue)
        inside = taken(queue, 0.4)
        val = taken(queue[:inside], 0.5)
        identity = np.repeat(np.arange(25), counts)
        split = make_split(identity, range(25), num_forget=2, seed=seed, walk=walk)
        plain = queue[:val], queue[val:inside], queue[inside:]
        if walk == "corrected" and not is_balanced(identity, plain):
            assert is_balanced(identity, (split.val, split.test, split.train))
            continue
        assert (list(split.val), list(split.test)) == (queue[:val], queue[val:inside])
        assert list(split.train) == queue[inside:]
        other = make_split(
            identity,
            range(25),
            num_forget=2,
            seed=seed,
            walk="corrected" if walk == "reference" else "reference",
        )
        differing += other.train != split.train
    assert differing > 3


def test_a_fingerprint_changes_with_every_part() -> None:
    identity = np.repeat(np.arange(30), 8)
    split = make_split(identity, range(30), num_forget=4, seed=1)
    others = [make_split(identity, range(30), num_forget=4, seed=1, support_seed=2)]
    for part in ("train", "val", "test", "forget", "retain"):
        values = getattr(split, part)
        changed: dict[str, Any] = {part: (*values[1:], values[0])}
        if part == "forget":
            changed["support"] = (*split.support[1:], split.support[0])
        others.append(dataclasses.replace(split, **changed))
    others.append(dataclasses.replace(split, reserved=split.test))
    prints = [split.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == 8
    assert all(len(text) == 16 for text in prints)


def test_reserved_people_are_trained_on_and_never_forgotten() -> None:
    identity = np.repeat(np.arange(60), 4)
    plain = make_split(identity, range(60), num_forget=6, seed=1)
    reserved = [plain.forget[0], plain.forget[3], plain.test[0]]
    split = make_split(identity, range(60), num_forget=6, seed=1, reserved=reserved)
    assert split.reserved == tuple(sorted(reserved))
    assert not set(split.forget) & set(reserved)
    assert set(reserved[:2]) <= set(split.retain)
    # The others are chosen as they would have been, and two more in the place of the two.
    kept = [person for person in plain.forget if person not in reserved]
    assert list(split.forget[:4]) == kept
    assert len(split.forget) == len(set(split.forget)) == 6
    for name in ("train", "val", "test"):
        assert getattr(split, name) == getattr(plain, name)
    assert make_split(identity, range(60), num_forget=6, seed=1, reserved=plain.test).forget == (
        plain.forget
    )


def test_too_few_people_beside_the_reserved_is_one_sentence_with_what_helps() -> None:
    identity = np.repeat(np.arange(30), 4)
    train = make_split(identity, range(30), num_forget=2, seed=0).train
    enough = make_split(identity, range(30), num_forget=2, seed=0, reserved=train[2:])
    assert sorted(enough.forget) == sorted(train[:2])
    with pytest.raises(InputError) as error:
        make_split(identity, range(30), num_forget=2, seed=0, reserved=train[1:])
    assert str(error.value) == (
        "forget size 2 is too large for a cell that only tunes: of the 17 training identities that "
        "could be forgotten, 16 are kept out, because reported cells forget them; report fewer "
        "sweep.seeds, lower sweep.forget_sizes, say tuning.cells=own or use profile=paper"
    )
    # Where they would not suffice anyway, nobody is told to report less.
    with pytest.raises(InputError, match="choose a smaller forget size"):
        make_split(identity, range(30), num_forget=25, seed=0, reserved=train[1:])


def test_somebody_with_images_is_left_to_retain() -> None:
    identity = np.repeat(np.arange(30), 4)
    num_train = len(make_split(identity, range(30), num_forget=2, seed=0).train)
    largest = make_split(identity, range(30), num_forget=num_train - 1, seed=0)
    assert len(largest.retain) == 1
    with pytest.raises(InputError, match=f"forget size {num_train} is too large.*left to retain"):
        make_split(identity, range(30), num_forget=num_train, seed=0)
    # Where nobody has a second picture no other size would do.
    with pytest.raises(InputError, match=r"0 have the 2 images .*; bring more pictures of each"):
        make_split(np.arange(30), range(30), num_forget=2, seed=0)


def test_labels_must_occur_on_both_sides() -> None:
    identity = np.repeat(np.arange(30), 4)
    split = make_split(identity, range(30), num_forget=2, seed=0)
    shared = np.zeros((120, 3), dtype=np.uint8)
    shared[[split.images(name)[0] for name in ("train", "val", "test")], 1] = 1
    require_shared_labels(split, shared)
    require_shared_labels(split, shared[:, 1].astype(np.int64))
    for name in ("val", "test"):
        moved = shared.copy()
        moved[split.images(name)] = [0, 0, 1]
        with pytest.raises(InputError, match=f"^no attribute .* of the {name} set occurs in the"):
            require_shared_labels(split, moved)
        classes = np.isin(identity, getattr(split, name)).astype(np.int64)
        with pytest.raises(InputError, match=f"^no class of the {name} set occurs in the training"):
            require_shared_labels(split, classes)
