package dev.edgekit;

import java.util.Map;

/** The values of the flow by name. */
public final class Raw extends Result {
    public final Map<String, Tensor> tensors;

    Raw(Map<String, Tensor> tensors, Map<String, Double> timings) {
        super(timings);
        this.tensors = tensors;
    }

    @Override
    void fields(Map<String, Object> into) {
        into.put("tensors", tensors);
    }
}
