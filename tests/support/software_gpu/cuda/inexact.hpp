// After all headers. CuPy's numbers of half precision, as words:
inline unsigned short __half_as_ushort(const half &x) { return ((__half_raw)x).x; }
inline half __ushort_as_half(unsigned short x) { return half(__half_raw{x}); }

// From here on the functions are the device's.
#define exp(x) software_exp(x)
#define expf(x) software_exp((float)(x))
#define expm1(x) software_expm1(x)
#define expm1f(x) software_expm1((float)(x))
#define log(x) software_log(x)
#define logf(x) software_log((float)(x))
#define log1p(x) software_log1p(x)
#define log1pf(x) software_log1p((float)(x))
#define tanh(x) software_tanh(x)
#define tanhf(x) software_tanh((float)(x))
#define sinh(x) software_sinh(x)
#define cosh(x) software_cosh(x)
#define sin(x) software_sin(x)
#define sinf(x) software_sin((float)(x))
#define cos(x) software_cos(x)
#define cosf(x) software_cos((float)(x))
#define erf(x) software_erf(x)
#define erff(x) software_erf((float)(x))
