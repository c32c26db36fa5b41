package dev.edgekit;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Runs the library for the tests: one request after another on stdin, its answer on stdout. A message is the length of its
 * JSON (4 bytes, big-endian), the JSON, and the bytes (little-endian) of each tensor that the JSON lists. Graphs are run by
 * the other side: the library's own are LiteRT's, which has no build for a desktop JVM.
 */
public final class Bridge {
    private final DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
    private final DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 16));
    private Predictor predictor;

    /** The JSON of a message and its tensors. */
    private static final class Message {
        final Map<String, Object> head;
        final Map<String, Tensor> tensors = new LinkedHashMap<>();

        Message(Map<String, Object> head) {
            this.head = head;
        }
    }

    public static void main(String[] arguments) throws IOException {
        new Bridge().serve();
    }

    private void serve() throws IOException {
        while (true) {
            Message request;
            try {
                request = receive();
            } catch (EOFException end) {
                return;
            }
            Message answer = new Message(new LinkedHashMap<>());
            try {
                answer(request, answer);
            } catch (EdgekitError error) {
                answer.tensors.clear();
                answer.head.put("error", error.getClass().getSimpleName());
                answer.head.put("message", error.getMessage());
            } catch (RuntimeException error) {
                answer.tensors.clear();
                answer.head.put("error", "defect");
                answer.head.put("message", error + " at " + java.util.Arrays.toString(error.getStackTrace()));
            }
            send(answer);
        }
    }

    @SuppressWarnings("unchecked")
    private Message receive() throws IOException {
        byte[] data = new byte[in.readInt()];
        in.readFully(data);
        Message message = new Message((Map<String, Object>) Json.parse(data));
        for (Object item : (List<?>) message.head.get("tensors")) {
            Map<?, ?> fact = (Map<?, ?>) item;
            List<?> sizes = (List<?>) fact.get("shape");
            int[] shape = new int[sizes.size()];
            for (int i = 0; i < shape.length; i++) {
                shape[i] = ((Long) sizes.get(i)).intValue();
            }
            String datatype = (String) fact.get("datatype");
            Object values = Tensor.array(datatype, Tensor.count(shape));
            byte[] raw = new byte[Tensor.count(shape) * width(values)];
            in.readFully(raw);
            fill(values, ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN));
            message.tensors.put((String) fact.get("name"), new Tensor(datatype, shape, values));
        }
        return message;
    }

    private static int width(Object values) {
        if (values instanceof long[]) {
            return 8;
        }
        return values instanceof byte[] ? 1 : values instanceof short[] ? 2 : 4;
    }

    private static void fill(Object values, ByteBuffer raw) {
        if (values instanceof float[]) {
            raw.asFloatBuffer().get((float[]) values);
        } else if (values instanceof int[]) {
            raw.asIntBuffer().get((int[]) values);
        } else if (values instanceof long[]) {
            raw.asLongBuffer().get((long[]) values);
        } else if (values instanceof short[]) {
            raw.asShortBuffer().get((short[]) values);
        } else {
            raw.get((byte[]) values);
        }
    }

    private static byte[] bytes(Tensor tensor) {
        ByteBuffer raw = ByteBuffer.allocate(tensor.size() * width(tensor.data)).order(ByteOrder.LITTLE_ENDIAN);
        if (tensor.data instanceof float[]) {
            raw.asFloatBuffer().put((float[]) tensor.data);
        } else if (tensor.data instanceof int[]) {
            raw.asIntBuffer().put((int[]) tensor.data);
        } else if (tensor.data instanceof long[]) {
            raw.asLongBuffer().put((long[]) tensor.data);
        } else if (tensor.data instanceof short[]) {
            raw.asShortBuffer().put((short[]) tensor.data);
        } else {
            raw.put((byte[]) tensor.data);
        }
        return raw.array();
    }

    private void send(Message message) throws IOException {
        List<Object> facts = new ArrayList<>();
        for (Map.Entry<String, Tensor> entry : message.tensors.entrySet()) {
            Map<String, Object> fact = new LinkedHashMap<>();
            fact.put("name", entry.getKey());
            fact.put("datatype", entry.getValue().datatype);
            List<Object> shape = new ArrayList<>();
            for (int size : entry.getValue().shape) {
                shape.add((long) size);
            }
            fact.put("shape", shape);
            facts.add(fact);
        }
        message.head.put("tensors", facts);
        byte[] head = Json.write(message.head).getBytes(StandardCharsets.UTF_8);
        out.writeInt(head.length);
        out.write(head);
        for (Tensor tensor : message.tensors.values()) {
            out.write(bytes(tensor));
        }
        out.flush();
    }

    private void answer(Message request, Message answer) {
        switch ((String) request.head.get("do")) {
            case "prepare":
                InputSpec spec = new Fields(request.head.get("spec"), "").all(InputSpec::read);
                answer.tensors.putAll(prepare(spec, request));
                break;
            case "manifest":
                answer.head.put("name", Manifest.parse(((String) request.head.get("text")).getBytes(StandardCharsets.UTF_8)).name);
                break;
            case "load":
                Path folder = Paths.get((String) request.head.get("folder"));
                predictor = Predictor.load(new DirectoryFiles(folder), PipeGraph::new);
                break;
            case "predict":
                Map<String, Tensor> seen = new LinkedHashMap<>();
                Result result = predictor.trace(inputs(request), seen);
                answer.head.put("result", Json.parse(result.toJson().getBytes(StandardCharsets.UTF_8)));
                answer.tensors.putAll(seen);
                break;
            case "golden":
                GoldenCheck check = new GoldenCheck(predictor, new DirectoryFiles(Paths.get((String) request.head.get("decoded"))));
                answer.head.put("report", check.run().toString());
                answer.head.put("passed", check.passed());
                break;
            default:
                throw new InputError("unknown request " + request.head.get("do"));
        }
    }

    private static Manifest.Limits limits() {
        String text = "{\"pixels\":50000000,\"image_bytes\":1,\"audio_seconds\":600.0,\"audio_bytes\":1,\"audio_channels\":8,"
                + "\"text_bytes\":1048576,\"candidates\":1000}";
        return new Fields(Json.parse(text.getBytes(StandardCharsets.UTF_8)), "").all(Manifest.Limits::new);
    }

    private static Map<String, Tensor> prepare(InputSpec spec, Message request) {
        if (spec instanceof ImageSpec) {
            Object turn = request.head.get("orientation");
            Pixels picture = pixels(request.tensors.get("value")).oriented(turn == null ? 1 : ((Long) turn).intValue());
            return ImageTransform.transform((ImageSpec) spec, picture, limits().pixels);
        }
        if (spec instanceof AudioSpec) {
            int rate = ((Long) request.head.get("rate_hz")).intValue();
            return AudioTransform.transform((AudioSpec) spec, sound(request.tensors.get("value"), rate), limits());
        }
        String tokenizer = (String) request.head.get("tokenizer");
        BundleFiles files = name -> tokenizer.getBytes(StandardCharsets.UTF_8);
        return new TextTransform((TextSpec) spec, limits().textBytes, files).transform((String) request.head.get("text"));
    }

    private static Pixels pixels(Tensor array) {
        byte[] levels = (byte[]) array.data;
        int height = array.shape[0];
        int width = array.shape[1];
        if (array.shape[2] == 4) {
            int[] colours = new int[height * width];
            for (int i = 0; i < colours.length; i++) {
                colours[i] = (levels[4 * i + 3] & 0xff) << 24
                        | (levels[4 * i] & 0xff) << 16
                        | (levels[4 * i + 1] & 0xff) << 8
                        | (levels[4 * i + 2] & 0xff);
            }
            return Pixels.argb(colours, width, height);
        }
        return array.shape[2] == 3 ? Pixels.rgb(levels, width, height) : Pixels.grey(levels, width, height);
    }

    private static Sound sound(Tensor array, int rate) {
        return array.data instanceof short[]
                ? Sound.of((short[]) array.data, array.shape[1], rate)
                : Sound.of((float[]) array.data, array.shape[1], rate);
    }

    private static Map<String, Object> inputs(Message request) {
        Map<String, Object> given = new LinkedHashMap<>();
        for (Map.Entry<String, Tensor> entry : request.tensors.entrySet()) {
            String keyword = entry.getKey();
            Tensor array = entry.getValue();
            Object value = array;
            if (keyword.equals("image")) {
                value = pixels(array);
            } else if (keyword.equals("audio")) {
                value = sound(array, ((Long) request.head.get("rate_hz")).intValue());
            }
            given.put(keyword, value);
        }
        if (request.head.get("text") != null) {
            given.put("text", request.head.get("text"));
        }
        return given;
    }

    /** A graph that the process at the other end of the pipe runs. */
    private final class PipeGraph implements Graph {
        private final String file;

        PipeGraph(String file) {
            this.file = file;
        }

        private Message ask(Message question) {
            try {
                question.head.put("graph", file);
                send(question);
                return receive();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        @Override
        public List<TensorSpec> inputs() {
            List<TensorSpec> specs = new ArrayList<>();
            for (Map.Entry<String, Tensor> entry : ask(new Message(new LinkedHashMap<>(Collections.singletonMap("what", "inputs"))))
                    .tensors
                    .entrySet()) {
                specs.add(new TensorSpec(entry.getKey(), entry.getValue().datatype, entry.getValue().shape));
            }
            return specs;
        }

        @Override
        public Map<String, Tensor> run(Map<String, Tensor> tensors) {
            Message question = new Message(new LinkedHashMap<>(Collections.singletonMap("what", "run")));
            question.tensors.putAll(tensors);
            Message answer = ask(question);
            if (answer.head.get("error") != null) {
                throw new GraphRefused((String) answer.head.get("error"));
            }
            return answer.tensors;
        }

        @Override
        public void close() {}
    }

    /** A folder of a disk. */
    private static final class DirectoryFiles implements BundleFiles {
        private final Path folder;

        DirectoryFiles(Path folder) {
            this.folder = folder;
        }

        @Override
        public byte[] read(String name) {
            try {
                return Files.readAllBytes(folder.resolve(name));
            } catch (IOException error) {
                throw new BundleError(name + ": cannot be read (" + error.getMessage() + ")");
            }
        }
    }
}
