"""A trained model as files that other programs open, each with what it must be given and with a model card."""

from fedlight.export.exporter import Choice, check_output, export_model
from fedlight.export.record import read_record

__all__ = ["Choice", "check_output", "export_model", "read_record"]
