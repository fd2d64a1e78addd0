// In the place of CuPy's: complex numbers are C++'s.
#pragma once
#include <complex>
using std::complex;
namespace thrust { using ::complex; }
