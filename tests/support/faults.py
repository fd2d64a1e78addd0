"""What a program does wrong on the GPU in software, as tests expect it."""

import pytest

from software_gpu import control


def refused(words, run, *arguments):
    """The call fails with these words, and they are noted as a fault."""
    with pytest.raises(Exception, match=words) as caught:
        run(*arguments)
    (fault,) = control.faults()
    assert fault in str(caught.value)
