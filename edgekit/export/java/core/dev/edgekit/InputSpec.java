package dev.edgekit;

import java.util.List;

/** One input of a bundle: `kind` says which record it is. */
public abstract class InputSpec {
    /** The names of the values that this input makes. */
    abstract List<String> values();

    static InputSpec read(Fields f) {
        switch (f.choice("kind", "image", "audio", "text", "tensor")) {
            case "image":
                return new ImageSpec(f);
            case "audio":
                return new AudioSpec(f);
            case "text":
                return new TextSpec(f);
            default:
                return new TensorSpec(f);
        }
    }

    /** An input that is given in the graph's own form. */
    static final class TensorSpec extends InputSpec {
        final String value;
        final String datatype;
        final int[] shape;

        TensorSpec(Fields f) {
            value = f.text("value");
            datatype = f.text("datatype");
            shape = f.wholes("shape");
        }

        @Override
        List<String> values() {
            return List.of(value);
        }
    }
}
