package dev.edgekit.litert;

import dev.edgekit.Graph;
import dev.edgekit.GraphLoader;
import dev.edgekit.GraphRefused;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.tensorflow.lite.DataType;
import org.tensorflow.lite.Interpreter;
import org.tensorflow.lite.Tensor;

/** Graphs run by LiteRT's Interpreter; the one class that touches it. */
public final class LiteRtLoader implements GraphLoader {
    private final Function<String, ByteBuffer> open;
    private final int threads;

    /** `open` gives the bytes of a graph's file, mapped or in a direct buffer; `threads` per graph, 0 = LiteRT's choice. */
    public LiteRtLoader(Function<String, ByteBuffer> open, int threads) {
        this.open = open;
        this.threads = threads;
    }

    @Override
    public Graph load(String file) {
        Interpreter.Options options = new Interpreter.Options();
        if (threads > 0) {
            options.setNumThreads(threads);
        }
        try {
            return new LiteRtGraph(file, new Interpreter(open.apply(file), options));
        } catch (IllegalArgumentException | IllegalStateException error) {
            throw new GraphRefused(file + ": LiteRT refuses it: " + error.getMessage());
        }
    }

    private static final class LiteRtGraph implements Graph {
        private final String file;
        private final Interpreter interpreter;
        private final List<String> inputNames = new ArrayList<>();
        private final List<String> outputNames = new ArrayList<>();

        LiteRtGraph(String file, Interpreter interpreter) {
            this.file = file;
            this.interpreter = interpreter;
            interpreter.allocateTensors();
            for (int i = 0; i < interpreter.getInputTensorCount(); i++) {
                inputNames.add(interpreter.getInputTensor(i).name());
            }
            for (int i = 0; i < interpreter.getOutputTensorCount(); i++) {
                outputNames.add(interpreter.getOutputTensor(i).name());
            }
            tellApart(inputNames, "input");
            tellApart(outputNames, "output");
        }

        /** An empty name becomes `plain`, the second of a name gets `#2`, as edgekit's formats/tflite.py names them. */
        private static void tellApart(List<String> names, String plain) {
            List<String> given = new ArrayList<>(names);
            List<String> taken = new ArrayList<>();
            for (String name : given) {
                String stem = name.isEmpty() ? plain : name;
                String unique = stem;
                for (int n = 2; taken.contains(unique) || (!unique.equals(name) && given.contains(unique)); n++) {
                    unique = stem + "#" + n;
                }
                taken.add(unique);
            }
            for (int i = 0; i < given.size(); i++) {
                names.set(i, taken.get(i));
            }
        }

        @Override
        public List<TensorSpec> inputs() {
            List<TensorSpec> specs = new ArrayList<>();
            for (int i = 0; i < inputNames.size(); i++) {
                Tensor tensor = interpreter.getInputTensor(i);
                int[] signature = tensor.shapeSignature();
                int[] shape = signature.length == tensor.shape().length ? signature : tensor.shape();
                specs.add(new TensorSpec(inputNames.get(i), datatype(tensor.dataType()), shape));
            }
            return specs;
        }

        private String datatype(DataType type) {
            switch (type) {
                case FLOAT32:
                    return "FP32";
                case INT32:
                case INT64:
                case INT16:
                case INT8:
                case UINT8:
                case BOOL:
                    return type.name();
                default:
                    throw new GraphRefused(file + ": a tensor of " + type);
            }
        }

        @Override
        public synchronized Map<String, dev.edgekit.Tensor> run(Map<String, dev.edgekit.Tensor> tensors) {
            try {
                return invoke(tensors);
            } catch (IllegalArgumentException | IllegalStateException error) {
                throw new GraphRefused(file + ": LiteRT could not run it: " + error.getMessage());
            }
        }

        private Map<String, dev.edgekit.Tensor> invoke(Map<String, dev.edgekit.Tensor> tensors) {
            Object[] inputs = new Object[inputNames.size()];
            boolean resized = false;
            for (int i = 0; i < inputs.length; i++) {
                dev.edgekit.Tensor tensor = tensors.get(inputNames.get(i));
                if (tensor == null) {
                    throw new GraphRefused(file + ": input '" + inputNames.get(i) + "' is not given");
                }
                if (!Arrays.equals(interpreter.getInputTensor(i).shape(), tensor.shape)) {
                    interpreter.resizeInput(i, tensor.shape, true);
                    resized = true;
                }
                inputs[i] = bytes(tensor);
            }
            if (resized) {
                interpreter.allocateTensors();
            }
            interpreter.resetVariableTensors();
            Map<Integer, Object> outputs = new HashMap<>();
            for (int i = 0; i < outputNames.size(); i++) {
                int size = interpreter.getOutputTensor(i).numBytes();
                outputs.put(i, ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder()));
            }
            interpreter.runForMultipleInputsOutputs(inputs, outputs);
            Map<String, dev.edgekit.Tensor> made = new LinkedHashMap<>();
            for (int i = 0; i < outputNames.size(); i++) {
                Tensor tensor = interpreter.getOutputTensor(i);
                ByteBuffer raw = (ByteBuffer) outputs.get(i);
                raw.rewind();
                made.put(outputNames.get(i), tensor(datatype(tensor.dataType()), tensor.shape(), raw));
            }
            return made;
        }

        private static ByteBuffer bytes(dev.edgekit.Tensor tensor) {
            Object data = tensor.data;
            int width = data instanceof long[] ? 8 : data instanceof byte[] ? 1 : data instanceof short[] ? 2 : 4;
            ByteBuffer raw = ByteBuffer.allocateDirect(tensor.size() * width).order(ByteOrder.nativeOrder());
            if (data instanceof float[]) {
                raw.asFloatBuffer().put((float[]) data);
            } else if (data instanceof int[]) {
                raw.asIntBuffer().put((int[]) data);
            } else if (data instanceof long[]) {
                raw.asLongBuffer().put((long[]) data);
            } else if (data instanceof short[]) {
                raw.asShortBuffer().put((short[]) data);
            } else {
                raw.put((byte[]) data);
                raw.rewind();
            }
            return raw;
        }

        private static dev.edgekit.Tensor tensor(String datatype, int[] shape, ByteBuffer raw) {
            int count = 1;
            for (int size : shape) {
                count *= size;
            }
            Object data;
            switch (datatype) {
                case "FP32":
                    data = new float[count];
                    raw.asFloatBuffer().get((float[]) data);
                    break;
                case "INT32":
                    data = new int[count];
                    raw.asIntBuffer().get((int[]) data);
                    break;
                case "INT64":
                    data = new long[count];
                    raw.asLongBuffer().get((long[]) data);
                    break;
                case "INT16":
                    data = new short[count];
                    raw.asShortBuffer().get((short[]) data);
                    break;
                default:
                    data = new byte[count];
                    raw.get((byte[]) data);
            }
            return new dev.edgekit.Tensor(datatype, shape, data);
        }

        @Override
        public void close() {
            interpreter.close();
        }
    }
}
