"""The routines of ``portnn.ops`` for NumPy alone."""

from portnn_numpy.uncompiled._convolution import convolution as convolution
from portnn_numpy.uncompiled._convolution import convolution_backward as convolution_backward
from portnn_numpy.uncompiled._convolution import convolution_gradient as convolution_gradient
