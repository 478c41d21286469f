"""A parcel: a few plain fields and one block of bytes, as they lie in a message of Flower's.

The block is one array of bytes, which Flower cuts into pieces and sends once, however many sites it goes to. Nothing
heavy is imported here: the process that Flower starts at a site for every message reads parcels, and has no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, RecordDict

Fields = Mapping[str, str | int | float | bool]

_FIELDS, _BLOCK = "fedlight", "block"


class ParcelError(ValueError):
    """A message of Flower's that holds no parcel."""


def wrap(fields: Fields, block: ArrayRecord | None = None) -> RecordDict:
    """Returns the content of a message.

    Args:
        fields: Plain values.
        block: What ``block_of`` returned; the same object may go into many messages.
    """
    from flwr.app import ConfigRecord, RecordDict

    content = RecordDict({_FIELDS: ConfigRecord(dict(fields))})
    if block is not None:
        content[_BLOCK] = block
    return content


def block_of(data: bytes) -> ArrayRecord:
    """Returns bytes as a record, without a copy."""
    from flwr.app import Array, ArrayRecord

    return ArrayRecord({_BLOCK: Array("uint8", (len(data),), "fedlight", data)})


def unwrap(content: RecordDict) -> tuple[dict[str, Any], bytes]:
    """Returns the fields and the bytes of a message.

    Raises:
        ParcelError: If it holds no parcel.
    """
    try:
        fields = dict(content.config_records[_FIELDS])
        block = content.array_records[_BLOCK][_BLOCK].data if _BLOCK in content.array_records else b""
    except (KeyError, AttributeError, TypeError) as error:
        raise ParcelError("the message holds no parcel of fedlight's") from error
    return fields, block
