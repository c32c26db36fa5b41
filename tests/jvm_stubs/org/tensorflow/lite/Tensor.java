package org.tensorflow.lite;

public interface Tensor {
    String name();

    int[] shape();

    int[] shapeSignature();

    DataType dataType();

    int numBytes();
}
