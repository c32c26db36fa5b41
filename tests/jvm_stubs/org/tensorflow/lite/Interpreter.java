package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.util.Map;

/** The documented signatures that the library calls, to compile against; nothing here runs. */
public final class Interpreter implements AutoCloseable {
    public static class Options {
        public Options setNumThreads(int threads) {
            return this;
        }
    }

    public Interpreter(ByteBuffer model, Options options) {}

    public void allocateTensors() {}

    public void resizeInput(int index, int[] shape, boolean strict) {}

    public void resetVariableTensors() {}

    public int getInputTensorCount() {
        return 0;
    }

    public Tensor getInputTensor(int index) {
        return null;
    }

    public int getOutputTensorCount() {
        return 0;
    }

    public Tensor getOutputTensor(int index) {
        return null;
    }

    public void runForMultipleInputsOutputs(Object[] inputs, Map<Integer, Object> outputs) {}

    @Override
    public void close() {}
}
