package dev.edgekit;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Numbers row by row with a datatype (KServe's words) and a shape. `data` is float[] for FP32, int[] for INT32, long[] for
 * INT64, short[] for INT16, byte[] for INT8, UINT8 and BOOL.
 */
public final class Tensor {
    public final String datatype;
    public final int[] shape;
    public final Object data;

    public Tensor(String datatype, int[] shape, Object data) {
        this.datatype = datatype;
        this.shape = shape.clone();
        this.data = data;
        if (java.lang.reflect.Array.getLength(data) != count(shape)) {
            throw new InputError("a tensor of shape " + Arrays.toString(shape) + " needs " + count(shape)
                    + " numbers, got " + java.lang.reflect.Array.getLength(data));
        }
    }

    public static Tensor of(float[] data, int... shape) {
        return new Tensor("FP32", shape, data);
    }

    public static Tensor of(long[] data, int... shape) {
        return new Tensor("INT64", shape, data);
    }

    /** Zeros; a free axis (-1) has size 1. */
    static Tensor zeros(String datatype, int[] shape) {
        int[] sizes = shape.clone();
        for (int i = 0; i < sizes.length; i++) {
            sizes[i] = Math.max(sizes[i], 1);
        }
        return new Tensor(datatype, sizes, array(datatype, count(sizes)));
    }

    static Object array(String datatype, int count) {
        switch (datatype) {
            case "FP32":
                return new float[count];
            case "INT32":
                return new int[count];
            case "INT64":
                return new long[count];
            case "INT16":
                return new short[count];
            case "INT8":
            case "UINT8":
            case "BOOL":
                return new byte[count];
            default:
                throw new BundleError("datatype " + datatype + " is not one that this library computes with");
        }
    }

    static int count(int[] shape) {
        long count = 1;
        for (int size : shape) {
            count *= size;
        }
        return Math.toIntExact(count);
    }

    /** How many numbers. */
    public int size() {
        return count(shape);
    }

    /** Rows along the first axis. */
    int rows() {
        return shape.length == 0 ? 1 : shape[0];
    }

    /** One number as a double. */
    double at(int index) {
        switch (datatype) {
            case "FP32":
                return ((float[]) data)[index];
            case "INT32":
                return ((int[]) data)[index];
            case "INT64":
                return ((long[]) data)[index];
            case "INT16":
                return ((short[]) data)[index];
            case "UINT8":
                return ((byte[]) data)[index] & 0xff;
            default:
                return ((byte[]) data)[index];
        }
    }

    /** All numbers as float32. */
    float[] floats() {
        if (data instanceof float[]) {
            return (float[]) data;
        }
        float[] values = new float[size()];
        for (int i = 0; i < values.length; i++) {
            values[i] = (float) at(i);
        }
        return values;
    }

    /** The same numbers in another datatype, converted as a C cast converts them. */
    Tensor cast(String wanted) {
        if (wanted.equals(datatype)) {
            return this;
        }
        Object values = array(wanted, size());
        for (int i = 0; i < size(); i++) {
            if (data instanceof long[] && values instanceof int[]) {
                ((int[]) values)[i] = (int) ((long[]) data)[i];
            } else if (data instanceof int[] && values instanceof long[]) {
                ((long[]) values)[i] = ((int[]) data)[i];
            } else {
                put(values, i, at(i));
            }
        }
        return new Tensor(wanted, shape, values);
    }

    /** Store a number that the datatype can hold. */
    static void put(Object values, int index, double value) {
        if (values instanceof float[]) {
            ((float[]) values)[index] = (float) value;
        } else if (values instanceof int[]) {
            ((int[]) values)[index] = (int) value;
        } else if (values instanceof long[]) {
            ((long[]) values)[index] = (long) value;
        } else if (values instanceof short[]) {
            ((short[]) values)[index] = (short) (int) value;
        } else {
            ((byte[]) values)[index] = (byte) (int) value;
        }
    }

    /** Row `index` of the first axis; with `keepAxis` that axis stays, of size 1. */
    Tensor row(int index, boolean keepAxis) {
        int[] sizes = keepAxis ? shape.clone() : Arrays.copyOfRange(shape, 1, shape.length);
        if (keepAxis) {
            sizes[0] = 1;
        }
        int width = count(sizes);
        Object values = array(datatype, width);
        System.arraycopy(data, index * width, values, 0, width);
        return new Tensor(datatype, sizes, values);
    }

    /** Tensors that differ in the first axis only, one after another; or under a new first axis. */
    static Tensor join(List<Tensor> parts, boolean newAxis) {
        Tensor first = parts.get(0);
        int rows = 0;
        int total = 0;
        for (Tensor part : parts) {
            rows += newAxis ? 1 : part.shape[0];
            total += part.size();
        }
        int[] sizes = newAxis ? new int[first.shape.length + 1] : first.shape.clone();
        if (newAxis) {
            System.arraycopy(first.shape, 0, sizes, 1, first.shape.length);
        }
        sizes[0] = rows;
        Object values = array(first.datatype, total);
        int at = 0;
        for (Tensor part : parts) {
            System.arraycopy(part.data, 0, values, at, part.size());
            at += part.size();
        }
        return new Tensor(first.datatype, sizes, values);
    }

    Tensor shaped(int... sizes) {
        return new Tensor(datatype, sizes, data);
    }

    /** Nested lists, as Python's tolist() gives them. */
    Object toList() {
        return toList(0, 0, size());
    }

    private Object toList(int axis, int from, int count) {
        if (axis == shape.length) {
            if (datatype.equals("BOOL")) {
                return at(from) != 0;
            }
            if (data instanceof float[]) {
                return at(from);
            }
            return data instanceof long[] ? ((long[]) data)[from] : (long) at(from);
        }
        List<Object> list = new ArrayList<>();
        int width = shape[axis] == 0 ? 0 : count / shape[axis];
        for (int i = 0; i < shape[axis]; i++) {
            list.add(toList(axis + 1, from + i * width, width));
        }
        return list;
    }
}
