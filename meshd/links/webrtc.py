"""The parts of aiortc that links are made of, imported without PyAV.

``import aiortc`` imports PyAV (FFmpeg) for its audio and video. Data channels use none of it, and it costs every daemon
16 MB of resident memory and 30 ms at start. While aiortc is being imported, empty modules stand in for PyAV; afterwards
they are taken away again, so that an ``import av`` elsewhere still gets the real one. Nothing else imports aiortc.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class _Absent(types.ModuleType):
    """A module in which every name is an empty class: enough for the annotations and class bodies of aiortc."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        placeholder = type(name, (), {"__module__": self.__name__})
        setattr(self, name, placeholder)
        return placeholder


class _MediaFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != "av":
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


@contextmanager
def _without_media() -> Iterator[None]:
    if "av" in sys.modules or "aiortc" in sys.modules:
        yield  # somebody has paid for it already
        return
    finder = _MediaFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _Absent)]:
            del sys.modules[name]


with _without_media():
    from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
    from aiortc.rtcdtlstransport import State as DtlsState

__all__ = [
    "DtlsState",
    "RTCCertificate",
    "RTCDtlsFingerprint",
    "RTCDtlsParameters",
    "RTCDtlsTransport",
    "RTCIceTransport",
]
