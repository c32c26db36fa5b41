package dev.edgekit;

import java.util.List;
import java.util.Map;

/** Everything about a bundle: the records of manifest.json, by the same keys. */
public final class Manifest {
    public static final int FORMAT = 1;

    public final String name;
    public final String version;
    public final String task;
    public final String license;
    public final String source;
    public final Map<String, InputSpec> inputs;
    public final List<GraphSpec> graphs;
    public final Postprocess postprocess;
    public final List<GoldenSample> golden;
    public final Limits limits;
    public final String target;

    private Manifest(Fields f) {
        f.whole("format");
        name = f.text("name");
        version = f.text("version");
        task = f.text("task");
        license = f.text("license");
        source = f.text("source");
        inputs = f.named("inputs", InputSpec::read);
        graphs = f.each("graphs", GraphSpec::new);
        postprocess = f.record("postprocess", Postprocess::new);
        if (f.any("generation") != null) {
            throw Fields.problem("generation", "this library does not generate");
        }
        golden = f.each("golden", GoldenSample::new);
        limits = f.record("limits", Limits::new);
        target = f.text("target");
        f.any("run"); // threads and providers are the app's choice here
        f.any("requires"); // Python packages
        f.any("files"); // sizes and hashes: the app's own signature stands for them
    }

    /** The manifest that these bytes are. */
    public static Manifest parse(byte[] data) {
        Object document = Json.parse(data);
        Object format = document instanceof Map ? ((Map<?, ?>) document).get("format") : null;
        if (!Long.valueOf(FORMAT).equals(format)) {
            throw Fields.problem("format", "this library reads format " + FORMAT + ", got " + format);
        }
        return new Fields(document, "").all(Manifest::new);
    }

    /** What is accepted before anything is computed. */
    public static final class Limits {
        public final int pixels;
        public final double audioSeconds;
        public final int audioChannels;
        public final int textBytes;
        public final int candidates;

        Limits(Fields f) {
            pixels = f.whole("pixels");
            f.wholeLong("image_bytes");
            audioSeconds = f.real("audio_seconds");
            f.wholeLong("audio_bytes");
            audioChannels = f.whole("audio_channels");
            textBytes = f.whole("text_bytes");
            candidates = f.whole("candidates");
        }
    }

    /** One input or output of a graph, and the value of the flow that it reads or writes. */
    public static final class Port {
        public final String name;
        public final String value;
        public final String datatype;
        public final int[] shape;
        public final Quantization quantization;

        Port(Fields f) {
            name = f.text("name");
            value = f.text("value");
            datatype = f.text("datatype");
            shape = f.wholes("shape");
            quantization = f.recordOrNull("quantization", Quantization::new);
        }
    }

    /** A tensor carried from one run to the next. */
    public static final class State {
        public final String input;
        public final String output;

        State(Fields f) {
            input = f.text("input");
            output = f.text("output");
            f.choice("init", "zeros");
        }
    }

    /** A graph input that is the same in every run. */
    public static final class Constant {
        public final String name;
        public final Tensor tensor;

        Constant(Fields f) {
            name = f.text("name");
            String datatype = f.text("datatype");
            int[] shape = f.wholes("shape");
            double[] data = f.reals("data");
            Object values = Tensor.array(datatype, data.length);
            for (int i = 0; i < data.length; i++) {
                Tensor.put(values, i, data[i]);
            }
            tensor = new Tensor(datatype, shape, values);
        }
    }

    /** One model file and how it is wired into the flow. */
    public static final class GraphSpec {
        public final String name;
        public final String file;
        public final String role;
        public final List<Port> inputs;
        public final List<Port> outputs;
        public final List<State> state;
        public final List<Constant> constants;

        GraphSpec(Fields f) {
            name = f.text("name");
            file = f.text("file");
            if (f.textOrNull("data") != null) {
                throw new BundleError("graph '" + name + "' has weights outside its file");
            }
            f.choice("runtime", "litert");
            role = f.text("role");
            f.text("precision");
            inputs = f.each("inputs", Port::new);
            outputs = f.each("outputs", Port::new);
            state = f.each("state", State::new);
            constants = f.each("constants", Constant::new);
        }
    }

    /** An input and what it must give. */
    public static final class GoldenSample {
        public final String name;
        public final String truth;
        public final List<Object> inputs;
        public final List<ExpectedTensor> tensors;
        public final Object result;
        public final double tolerance;

        GoldenSample(Fields f) {
            name = f.text("name");
            truth = f.text("truth");
            f.text("origin");
            inputs = f.list("inputs");
            tensors = f.each("tensors", ExpectedTensor::new);
            result = f.any("result");
            tolerance = f.real("tolerance");
        }
    }

    /** What a value of the flow must be for a golden sample. */
    public static final class ExpectedTensor {
        public final String value;
        public final String stage;
        public final String datatype;
        public final int[] shape;
        public final String file;
        public final Long indicesSeed;
        public final int count;
        public final double tolerance;

        ExpectedTensor(Fields f) {
            value = f.text("value");
            stage = f.choice("stage", "preprocess", "graph");
            datatype = f.text("datatype");
            shape = f.wholes("shape");
            file = f.text("file");
            indicesSeed = f.wholeOrNull("indices_seed");
            count = f.whole("count");
            f.real("mean");
            f.real("deviation");
            tolerance = f.real("tolerance");
        }
    }
}
