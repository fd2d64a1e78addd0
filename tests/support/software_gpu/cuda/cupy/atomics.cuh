#pragma once
// In the place of CuPy's: on_the_host.hpp has atomic operations.
