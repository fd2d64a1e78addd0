#pragma once
// In the place of CuPy's: complex numbers are not computed with here, only named.
template <class T> struct complex { T re, im; complex(T re = 0, T im = 0) : re(re), im(im) {} };
namespace thrust { using ::complex; }
