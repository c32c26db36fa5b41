package dev.edgekit;

/** real = scale * (quantised - zeroPoint); the way there rounds as said and saturates. */
public final class Quantization {
    public final double scale;
    public final long zeroPoint;
    public final String rounding;

    Quantization(Fields f) {
        scale = f.real("scale");
        zeroPoint = f.wholeLong("zero_point");
        rounding = f.choice("rounding", "nearest_even", "nearest_away", "trunc");
    }

    /** float32 values to whole numbers of `datatype`, in float32 arithmetic. */
    Object quantize(float[] values, String datatype) {
        Object result = Tensor.array(datatype, values.length);
        float step = (float) scale;
        float zero = (float) zeroPoint;
        for (int i = 0; i < values.length; i++) {
            if (Float.isNaN(values[i])) {
                throw new InputError("a value that is not a number (NaN) cannot be quantised");
            }
            float steps = values[i] / step;
            if (rounding.equals("trunc")) {
                steps = trunc(steps + zero);
            } else if (rounding.equals("nearest_even")) {
                steps = (float) Math.rint(steps) + zero;
            } else {
                float whole = trunc(steps); // adding 0.5 first would lift 0.49999997 to 1
                steps = whole + (Math.abs(steps - whole) >= 0.5f ? Math.copySign(1f, steps) : 0f) + zero;
            }
            Tensor.put(result, i, saturated(steps, datatype));
        }
        return result;
    }

    /** The same in float64: what a C cast of a float64 quotient sees. */
    Object quantizeExactly(float[] values, String datatype) {
        Object result = Tensor.array(datatype, values.length);
        for (int i = 0; i < values.length; i++) {
            double steps = values[i] / scale + zeroPoint;
            Tensor.put(result, i, saturated(steps < 0 ? Math.ceil(steps) : Math.floor(steps), datatype));
        }
        return result;
    }

    private static float trunc(float x) {
        return (float) (x < 0 ? Math.ceil(x) : Math.floor(x));
    }

    static double saturated(double value, String datatype) {
        switch (datatype) {
            case "UINT8":
                return Math.min(Math.max(value, 0), 255);
            case "INT8":
                return Math.min(Math.max(value, -128), 127);
            case "INT16":
                return Math.min(Math.max(value, -32768), 32767);
            case "INT32":
                return Math.min(Math.max(value, Integer.MIN_VALUE), Integer.MAX_VALUE);
            default:
                throw new BundleError("a tensor of " + datatype + " is not quantised");
        }
    }

    /** Whole numbers to float32: scale * (q - zeroPoint). */
    Tensor dequantize(Tensor tensor) {
        float[] values = new float[tensor.size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) ((long) tensor.at(i) - zeroPoint) * (float) scale;
        }
        return Tensor.of(values, tensor.shape);
    }
}
