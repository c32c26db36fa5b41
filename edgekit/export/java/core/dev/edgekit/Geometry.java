package dev.edgekit;

import java.util.List;

/**
 * Where the pixels of a tensor come from: original x = x * scaleX + offsetX, and the same for y, along pixel edges; `content`
 * is the part of the tensor that shows picture, in tensor pixels.
 */
public final class Geometry {
    public final int height;
    public final int width;
    public double scaleY = 1.0;
    public double scaleX = 1.0;
    public double offsetY = 0.0;
    public double offsetX = 0.0;
    public int contentTop = 0;
    public int contentLeft = 0;
    public int contentHeight;
    public int contentWidth;
    public boolean turned = false;

    Geometry(List<ImagePlan.Operation> operations, int height, int width) {
        this.height = height;
        this.width = width;
        contentHeight = height;
        contentWidth = width;
        int nowHeight = height;
        int nowWidth = width;
        for (ImagePlan.Operation operation : operations) {
            int bottom;
            int right;
            if (operation.turn) {
                turned = true;
                contentHeight = operation.height;
                contentWidth = operation.width;
                nowHeight = operation.height;
                nowWidth = operation.width;
                continue;
            }
            if (operation.step != null) {
                double factorY = (double) nowHeight / operation.height;
                double factorX = (double) nowWidth / operation.width;
                scaleY *= factorY;
                scaleX *= factorX;
                bottom = (int) Math.rint((contentTop + contentHeight) / factorY);
                right = (int) Math.rint((contentLeft + contentWidth) / factorX);
                contentTop = (int) Math.rint(contentTop / factorY);
                contentLeft = (int) Math.rint(contentLeft / factorX);
            } else {
                offsetY += operation.top * scaleY;
                offsetX += operation.left * scaleX;
                bottom = Math.min(contentTop + contentHeight - operation.top, operation.height);
                right = Math.min(contentLeft + contentWidth - operation.left, operation.width);
                contentTop = Math.max(contentTop - operation.top, 0);
                contentLeft = Math.max(contentLeft - operation.left, 0);
            }
            contentHeight = bottom - contentTop;
            contentWidth = right - contentLeft;
            nowHeight = operation.height;
            nowWidth = operation.width;
        }
    }
}
