static float sigmoid(float x)
{
    const float z = expf(-fabsf(x)); /* never more than 1 */
    return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}

static float relu(float x)
{
    return x < 0.0f ? 0.0f : x;
}

static float leaky_relu(float x)
{
    return x < 0.0f ? 0.01f * x : x;
}

static float elu(float x)
{
    return x > 0.0f ? x : expm1f(x);
}

static float selu(float x)
{
    const float s = 1.0507009873554805f, a = 1.6732632423543772f;
    return x > 0.0f ? s * x : s * a * expm1f(x);
}

/* x P(x), where P is the standard normal distribution; below -40 it is 0 to the last bit */
static float gelu(float x)
{
    return x < -40.0f ? 0.0f : x * (0.5f + 0.5f * erff(x * 0.7071067811865476f));
}

static float gelu_tanh(float x)
{
    if (x < -40.0f || x > 40.0f) {
        return x < 0.0f ? 0.0f : x;
    }
    return 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}

static float silu(float x)
{
    return x < -1000.0f ? 0.0f : x * sigmoid(x);
}

static float softplus(float x)
{
    return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

static float softsign(float x)
{
    return fabsf(x) > 1e30f ? (x > 0.0f ? 1.0f : -1.0f) : x / (1.0f + fabsf(x));
}

static float hard_sigmoid(float x)
{
    const float y = x * 0.16666666666666667f + 0.5f;
    return y < 0.0f ? 0.0f : y > 1.0f ? 1.0f : y;
}
