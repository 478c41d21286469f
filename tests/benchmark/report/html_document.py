"""An HTML document as a list of its elements, read by the standard library's parser."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "source", "wbr"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    parents: tuple[str, ...]
    text: str = ""


@dataclass
class Document(HTMLParser):
    """Elements in their order; ``problems`` are tags that do not nest."""

    source: str
    elements: list[Element] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        self.problems += [f"<{element.tag}> is never closed" for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), tuple(opened.tag for opened in self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), tuple(opened.tag for opened in self._open)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def of(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def values(self, attribute: str) -> list[str]:
        return [element.attributes[attribute] or "" for element in self.elements if attribute in element.attributes]

    def table(self, name: str) -> list[list[str]]:
        """Texts of a table's body, row by row."""
        begin = next(i for i, element in enumerate(self.elements) if element.attributes.get("id") == f"table-{name}")
        rows: list[list[str]] = []
        for element in self.elements[begin + 1 :]:
            if element.tag == "table":
                break
            if element.tag == "tr" and "tbody" in element.parents:
                rows.append([])
            elif element.tag in ("th", "td") and "tbody" in element.parents:
                rows[-1].append(element.text.strip().replace("\xa0", " "))
        return rows
