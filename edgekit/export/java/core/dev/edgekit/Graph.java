package dev.edgekit;

import java.util.List;
import java.util.Map;

/** A loaded graph; tensors in and out are in the graph's own datatypes (quantised stay quantised). */
public interface Graph extends AutoCloseable {
    /** What an input or output is: shape -1 for a free axis. */
    final class TensorSpec {
        public final String name;
        public final String datatype;
        public final int[] shape;

        public TensorSpec(String name, String datatype, int[] shape) {
            this.name = name;
            this.datatype = datatype;
            this.shape = shape.clone();
        }
    }

    /** What goes in, in the graph's order. */
    List<TensorSpec> inputs();

    /** Outputs by name. */
    Map<String, Tensor> run(Map<String, Tensor> inputs);

    @Override
    void close();
}
