"""DICOM data elements (PS3.5, 7): where each lies in a file, found without reading any value.

Written here and not left to pydicom, for three reasons: its lists, texts and nested sequences are
built before anyone can look at their lengths (2.5 kB become gigabytes); it warns and logs with the
patient's data in the text, and silencing that changes the host process; and a device saves its
import. Here a value is a slice of the file, looked at only where it is short and asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from ..errors import UnreadableError

#: Elements and items that a header may have: a radiograph's has a few hundred.
_MAX_ELEMENTS = 100_000
#: Sequences inside each other; the standard's own objects need about ten.
_MAX_DEPTH = 64
_UNDEFINED = 0xFFFF_FFFF

# PS3.5, table 7.1-1: two reserved bytes and a length of four.
_LONG = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT = frozenset(
    (
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT"),
        *(b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    )
)
_KNOWN = _LONG | _SHORT
_DELIMITERS = 0xFFFE  # group of the next three, which have no value representation
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD


@dataclass(frozen=True)
class Encoding:
    """How the elements of a dataset are written.

    Parameters
    ----------
    explicit
        Whether each says its value representation.
    order
        ``<`` little endian or ``>`` big endian.
    """

    explicit: bool
    order: str


@dataclass(frozen=True)
class Element:
    """One data element.

    Parameters
    ----------
    tag
        Group and element number.
    vr
        Value representation; ``None`` where it is implicit.
    start, end
        Of the value, in bytes of the file.
    encoding
        Of what is inside, where it is a sequence.
    delimited
        Whether it ends with a delimiter and not by its length.
    """

    tag: int
    vr: bytes | None
    start: int
    end: int
    encoding: Encoding
    delimited: bool


@dataclass
class Elements:
    """Walks the data elements of a file; counts them, over all its walks.

    Parameters
    ----------
    data
        The file.
    name
        For errors.
    """

    data: bytes
    name: str
    _left: int = field(default=_MAX_ELEMENTS, init=False)

    def encoding(self, position: int, order: str) -> Encoding:
        """Whether the elements at a place are explicit: units err about it in the file's header."""
        return Encoding(self.data[position + 4 : position + 6] in _KNOWN, order)

    def find(
        self,
        wanted: Collection[int],
        position: int,
        end: int,
        encoding: Encoding,
        last: int = 0xFFFF_FFFF,
    ) -> tuple[dict[int, Element], int]:
        """The wanted elements of a dataset or an item, by tag, and where the walk ended.

        It ends behind the element ``last``, before those with a higher tag, at ``end`` and at the
        end of an item. A value of undefined length under ``last`` ends with the file.
        """
        found: dict[int, Element] = {}
        while position + 8 <= end:
            # Ahead of its length, which may be of another encoding: that of the file's next part.
            tag = self._tag(position, encoding.order)
            if tag == _ITEM_END or tag > last:
                break
            element = self._element(position, end, encoding)
            if element.delimited and element.tag != last:
                position = self._skip(element, end)
                element = Element(
                    element.tag, element.vr, element.start, position, element.encoding, True
                )
            position = element.end
            if element.tag in wanted:
                found[element.tag] = element
            if element.tag == last:
                break
        return found, position

    def first_item(self, sequence: Element, wanted: Collection[int]) -> dict[int, Element]:
        """The wanted elements of a sequence's first item; none where it has no item."""
        if sequence.end - sequence.start < 8:
            return {}
        item = self._element(sequence.start, sequence.end, sequence.encoding)
        if item.tag != _ITEM:
            return {}
        return self.find(wanted, item.start, item.end, sequence.encoding)[0]

    def fragments(self, element: Element) -> bytes:
        """Encapsulated pixel data as one codestream: all fragments behind the offset table."""
        position = element.start
        parts: list[bytes] = []
        while position + 8 <= element.end:
            item = self._element(position, element.end, element.encoding)
            if item.tag == _SEQUENCE_END:
                break
            if item.tag != _ITEM or item.delimited:
                raise self._damaged()
            parts.append(self.data[item.start : item.end])
            position = item.end
        return b"".join(parts[1:])

    def _tag(self, position: int, order: str) -> int:
        group, number = struct.unpack_from(order + "HH", self.data, position)
        return int(group << 16 | number)

    def _element(self, position: int, end: int, encoding: Encoding) -> Element:
        """The element at a place; of undefined length up to ``end``."""
        self._left -= 1
        if self._left < 0:
            raise UnreadableError(f"{self.name}: the DICOM header has too many elements")
        if position + 8 > end:
            raise self._damaged()
        order = encoding.order
        tag = self._tag(position, order)
        vr: bytes | None = self.data[position + 4 : position + 6]
        start = position + 8
        if tag >> 16 == _DELIMITERS or not encoding.explicit or vr not in _KNOWN:
            vr = None
            (length,) = struct.unpack_from(order + "I", self.data, position + 4)
        elif vr in _LONG:
            start = position + 12
            if start > end:
                raise self._damaged()
            (length,) = struct.unpack_from(order + "I", self.data, position + 8)
        else:
            (length,) = struct.unpack_from(order + "H", self.data, position + 6)
        delimited = length == _UNDEFINED
        if not delimited and start + length > end:
            raise self._damaged()
        inside = Encoding(False, "<") if vr == b"UN" else encoding  # PS3.5, 6.2.2
        return Element(tag, vr, start, end if delimited else start + length, inside, delimited)

    def _skip(self, sequence: Element, end: int) -> int:
        """Where a sequence of undefined length ends, whatever is nested in it."""
        position = sequence.start
        # Of each open level: how its elements are written, and whether it is an item.
        levels = [(sequence.encoding, False)]
        while levels:
            if len(levels) > _MAX_DEPTH:
                raise UnreadableError(f"{self.name}: the DICOM header is nested too deeply")
            encoding, in_item = levels[-1]
            element = self._element(position, end, encoding)
            position = element.start if element.delimited else element.end
            if element.tag == (_ITEM_END if in_item else _SEQUENCE_END):
                levels.pop()
            elif element.delimited:
                levels.append((element.encoding, element.tag == _ITEM))
        return position

    def _damaged(self) -> UnreadableError:
        return UnreadableError(f"{self.name}: the DICOM file is damaged or cut off")
