"""The descriptors that requests have passed: what may carry a stream, and for how long each is here."""

import os
import socket

import pytest

from meshd.control.passing import Passed
from meshd.daemon.descriptors import Descriptors
from meshd.errors import Code, ControlError


class Connection:
    def fileno(self):
        return -1


def passed(fd):
    return Passed(os.dup(fd), Connection())


def test_one_is_here_until_it_is_taken_or_its_request_has_ended():
    descriptors = Descriptors()
    reading, writing = os.pipe()
    first, second = passed(reading), passed(writing)
    with descriptors.lend(first) as one, descriptors.lend(second) as other:
        assert one != other
        assert descriptors.take(one) is first
        assert descriptors.take(one) is None
        assert len(descriptors) == 1
    assert descriptors.take(other) is None
    for each in (first, second):
        each.close()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("kind", ["file", "directory", "datagrams", "fifo"])
def test_what_carries_no_stream_is_refused(tmp_path, kind):
    if kind == "fifo":
        os.mkfifo(tmp_path / "fifo")
        fd = os.open(tmp_path / "fifo", os.O_RDWR)
        one = passed(fd)
        os.close(fd)
    elif kind == "datagrams":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
            one = passed(made.fileno())
    else:
        fd = os.open(tmp_path if kind == "directory" else __file__, os.O_RDONLY)
        one = passed(fd)
        os.close(fd)
    with pytest.raises(ControlError) as caught, Descriptors().lend(one):
        pass
    assert caught.value.code is Code.INVALID_PARAMS
    assert "socketpair" in str(caught.value)
    one.close()
