"""The drawing of the mesh: whatever the mesh and the names in it, the file is sound and all of it is in the picture."""

import math
import re
import time
from itertools import pairwise
from random import Random
from xml.etree import ElementTree

import pytest
from fake_graph import LINK, graph, member
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshctl.picture import dot, labels, layout, model, svg
from meshd.control.methods import METHODS
from meshd.control.parameters import problem_in

NAMESPACE = "{http://www.w3.org/2000/svg}"
EVIL = [
    "<script>alert(1)</script>",
    '"/><x onload="',
    "]]>",
    "&amp;",
    "a\\",
    '"]; n9 [label="',
    "\x00\ufffe\ud800",
    "\u202e",
]

HARMLESS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.text(max_size=40) | st.sampled_from(EVIL)


def ident(number: int) -> bytes:
    return Random(number).randbytes(32)


def mesh(count, degree, seed=0, down=(), names_of=None, own=0):
    """A random mesh seen by one of its members, with the ways that are shortest."""
    rng = Random(seed)
    pairs = {
        (min(i, j), max(i, j)) for i in range(count) for j in rng.sample(range(count), min(degree, count)) if i != j
    }
    links = sorted([one, other] for one, other in pairs if one not in down and other not in down)
    claims = sorted(
        [one, other] if one in down else [other, one] for one, other in pairs if (one in down) != (other in down)
    )
    before, hops, queue = {own: None}, {own: 0}, [own]
    for node in queue:
        for other in sorted({*(b for a, b in links if a == node), *(a for a, b in links if b == node)}):
            if other not in hops:
                before[other], hops[other] = node, hops[node] + 1
                queue.append(other)
    members = []
    for node in range(count):
        state = (
            "unreachable" if node not in hops else ("self", "neighbor")[hops[node]] if hops[node] < 2 else "reachable"
        )
        name = names_of[node] if names_of else f"node-{node}"
        link = {**LINK, "kind": rng.choice(["host", "srflx", "relay"]), "rtt": rng.choice([None, 0.001, 0.05, 0.3])}
        changes = {"hops": hops.get(node), "before": before.get(node) if hops.get(node, 0) > 1 else None}
        members.append(member(ident(node), name, state, **changes, link=link if state == "neighbor" else None))
    return {**graph(), "members": members, "links": links, "claims": claims}


meshes = st.builds(
    lambda count, degree, seed, down: mesh(count, degree, seed, set(range(1, count)[:down])),
    st.integers(1, 70),
    st.integers(0, 6),
    st.integers(0, 50),
    st.integers(0, 4),
)


def drawn(result):
    return svg.draw(model.picture_of(result))


def parsed(text):
    root = ElementTree.fromstring(text)
    return root, [float(number) for number in root.get("viewBox").split()]


def spots_of(root):
    """Where each member is, by its id in the tooltip."""
    found = {}
    for group in root.iter(f"{NAMESPACE}g"):
        title = group.find(f"{NAMESPACE}title")
        if title is not None:
            dot_at = next(shape for shape in group if shape.get("class") == "dot")
            half = float(dot_at.get("width", 0)) / 2
            x = float(dot_at.get("cx") or dot_at.get("x")) + half
            y = float(dot_at.get("cy") or dot_at.get("y")) + half
            found[next(line for line in title.text.split("\n") if len(line) == 52)] = (x, y)
    return found


def test_the_meshes_of_these_tests_are_as_the_table_says():
    for result in (graph(), mesh(30, 4, down={3})):
        assert problem_in(METHODS["mesh.graph"].result, result) == ""


@HARMLESS
@given(st.lists(names, min_size=1, max_size=30), st.integers(0, 5), st.integers(0, 20))
def test_names_of_any_kind_make_a_sound_file_without_scripts(given_names, degree, seed):
    result = mesh(len(given_names), degree, seed, names_of=given_names) | {"mesh_name": given_names[-1]}
    text = drawn(result)
    root, _ = parsed(text)
    assert text.isascii()
    assert {element.tag.removeprefix(NAMESPACE) for element in root.iter()} <= {
        *("svg", "title", "desc", "style", "rect", "circle", "line", "path", "text", "g")
    }
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name]
    shown = " ".join(root.itertext())
    for name in given_names:
        wanted = model._harmless(name)
        assert wanted[: model.MAX_LABEL_CHARS - 1].strip() in shown


@HARMLESS
@given(st.lists(names, min_size=1, max_size=12), st.integers(0, 5))
def test_names_of_any_kind_stay_within_their_quotes_in_dot(given_names, degree):
    result = mesh(len(given_names), degree, names_of=given_names) | {"mesh_name": given_names[0]}
    text = dot.write(model.picture_of(result))
    bare = re.sub(r'"(?:[^"\\\n]|\\["\\])*"', "S", text)
    assert '"' not in bare
    assert "\\" not in bare
    statement = r"  (n\d+( -- n\d+)? )?\[?[\w.=, \[\];]*"
    lines = bare.splitlines()
    assert (lines[0], lines[-1]) == ("graph mesh {", "}")
    assert all(re.fullmatch(statement, line) for line in lines[1:-1]), bare
    assert bare.count("\n") == 4 + len(result["members"]) + len(result["links"]) + len(result["claims"])


@HARMLESS
@given(meshes)
def test_everybody_is_in_the_picture_and_nobody_lies_on_another(result):
    root, (left, top, width, height) = parsed(drawn(result))
    assert (left, top) == (0, 0)
    assert (root.get("width"), root.get("height")) == (f"{width:.0f}", f"{height:.0f}")
    spots = spots_of(root)
    assert set(spots) == {entry["peer_id"] for entry in result["members"]}
    assert all(10 < x < width - 10 and 10 < y < height - 10 for x, y in spots.values())
    places = sorted(spots.values())
    assert all(math.dist(one, other) > 10 for one, other in pairwise(places))


@HARMLESS
@given(meshes)
def test_the_same_mesh_makes_the_same_picture(result):
    again = {**result, "claims": list(reversed(result["claims"])), "links": list(reversed(result["links"]))}
    assert drawn(result) == drawn(again)


def test_names_do_not_overlap_at_two_hundred():
    picture = model.picture_of(mesh(200, 5, down={3, 99}))
    members = picture.members
    boxes = [labels.box_of(each, 6.5, 200, 11, is_named=True) for each in members]
    own = next(number for number, each in enumerate(members) if each.state == "self")
    spots = layout.place([each.key for each in members], svg._lengths(picture), boxes, 70, own)
    rects = [label.rect for label in labels.labels_of(picture, spots, lambda _: 6.5, 11).values()]
    assert len(rects) == 200
    overlapping = sum(
        a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for i, a in enumerate(rects) for b in rects[:i]
    )
    assert overlapping <= 2


def moved(one, other):
    """How far members have moved against each other: the median, as a share of the width."""
    before, after = spots_of(parsed(one)[0]), spots_of(parsed(other)[0])
    both = before.keys() & after.keys()
    shift = [sum(after[key][axis] - before[key][axis] for key in both) / len(both) for axis in (0, 1)]
    distances = sorted(
        math.hypot(*(after[key][axis] - before[key][axis] - shift[axis] for axis in (0, 1))) for key in both
    )
    return distances[len(distances) // 2] / parsed(one)[1][2]


@pytest.mark.parametrize("count", [20, 60, 200])
def test_a_member_that_goes_down_moves_the_picture_little(count):
    last = count - 1
    assert moved(drawn(mesh(count, 4)), drawn(mesh(count, 4, down={last}))) < 0.15


def test_a_new_name_moves_nothing():
    result = mesh(12, 3)
    renamed = {**result, "members": [{**entry, "name": "x" * len(entry["name"])} for entry in result["members"]]}
    assert moved(drawn(result), drawn(renamed)) < 0.01


def test_five_that_are_all_linked_are_a_regular_pentagon():
    text = drawn(mesh(5, 5))
    spots = list(spots_of(parsed(text)[0]).values())
    middle = [sum(spot[axis] for spot in spots) / 5 for axis in (0, 1)]
    assert len({round(math.dist(spot, middle)) for spot in spots}) == 1
    angles = sorted(math.atan2(y - middle[1], x - middle[0]) for x, y in spots)
    assert all(abs(b - a - 2 * math.pi / 5) < 0.01 for a, b in pairwise(angles))


def test_a_line_lies_flat_and_is_straight():
    links = [[0, 1], [1, 2], [2, 3]]
    result = mesh(4, 0)
    spots = spots_of(parsed(drawn({**result, "links": links}))[0]).values()
    heights = [y for _, y in spots]
    assert max(heights) - min(heights) < 8


def test_it_says_what_it_shows_in_words_too():
    root, _ = parsed(drawn(graph()))
    assert root.get("role") == "img"
    title, desc = root.find(f"{NAMESPACE}title"), root.find(f"{NAMESPACE}desc")
    assert root.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert "5 members, 4 links; 2 linked here, 1 over others, 1 unreachable" in desc.text
    assert "Unreachable: x" in desc.text
    style = root.find(f"{NAMESPACE}style").text
    assert "@media (prefers-color-scheme:dark)" in style
    assert "url(" not in style
    shown = [element.text for element in root.iter(f"{NAMESPACE}text")]
    for words in ("home", "12ms", "via desk", "unreachable", "only one end says so", "way of relayed messages"):
        assert words in shown


def test_many_are_drawn_soon_and_few_of_them_named():
    """A thousand, and in no more than a few seconds where five times as many are."""
    started = time.process_time()
    root, _ = parsed(drawn(mesh(1_000, 5, down=set(range(500, 560)))))
    assert time.process_time() - started < 20
    assert len(spots_of(root)) == 1_000
    named = [each for each in root.iter(f"{NAMESPACE}text") if (each.get("class") or "").startswith("name")]
    assert len(named) <= 1 + 12 + labels.MAX_DOWN_LABELLED + 20


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_meshes_that_are_hardly_any(count):
    result = mesh(count, 3) if count else {**graph(), "members": [], "links": [], "claims": []}
    root, _ = parsed(drawn(result))
    assert len(spots_of(root)) == count
