"""XML from a stranger, as a small tree: no document types, so no entities; bounded in size, depth and elements. Pure.

Names lose their prefix: routers declare namespaces wrongly, and no two names of UPnP differ by theirs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from meshd.errors import MalformedMessage

# Policy
MAX_XML_SIZE = 131_072  # bytes; device descriptions of routers take 3 to 20 KB
MAX_DEPTH = 32  # a service of a router is 10 deep
MAX_ELEMENTS = 4_096
MAX_TEXT_CHARS = 4_096  # of one element; more is cut off


@dataclass(slots=True)
class Element:
    """One element: its name without prefix, its own text without white space around it, and what is in it."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def every(self, name: str) -> Iterator[Element]:
        """All elements of that name in it, however deep, in the order of the document."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.every(name)

    def text_of(self, name: str) -> str:
        """The text of the first child of that name; empty without one."""
        return next((child.text for child in self.children if child.name == name), "")


def parse(data: bytes) -> Element:
    """The root of a document. Raises MalformedMessage."""
    if len(data) > MAX_XML_SIZE:
        raise MalformedMessage(f"XML of more than {MAX_XML_SIZE} bytes")
    root = Element("")
    open_elements = [root]
    count = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS or len(open_elements) > MAX_DEPTH:
            raise MalformedMessage("XML with too many elements, or too deep")
        element = Element(name.rpartition(":")[2])
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_name: str) -> None:
        element = open_elements.pop()
        element.text = element.text.strip()

    def text(data: str) -> None:
        element = open_elements[-1]
        element.text += data[: MAX_TEXT_CHARS - len(element.text)]

    def doctype(*_arguments: object) -> NoReturn:
        raise MalformedMessage("XML with a document type")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: encodings that Python has not
        raise MalformedMessage("not XML") from error
    return root.children[0]
