"""What a linear classifier can read from low-level maps before and after SEB.

The notes on the paper leave open whether SEB adds semantics to a low-level map or removes noise from it. For every run and
level two logistic regressions are taught on cells of the frozen map (C, h, w) of training images and scored on val:

class      which class has the cell (of most of its labelled pixels): semantic content.
border     whether the cell lies in the band around a class border: boundary content.

Scores are balanced accuracies, the mean over the answers of the share that is right; guessing gives 1 / (number of answers).
Cells are drawn evenly over the answers, the same in every run and before and after, so differences are paired. With several
seeds the table shows mean and standard deviation over seeds and, for after minus before, Student's 95 % interval.

What they cannot show: that the decoder uses what is there; that SEB alone put it there, for the encoder was trained together
with it (put a row without SEB beside it: its map before is what an encoder learns alone); or content that is there, but not
linearly.
A map after SEB holds products with upsampled deep maps, so that some rise of `class` is to be expected of any fusion: the
rows with other fusions say how much is the product's own.
"""
