"""What SEB does to the low-level maps: pictures and numbers of res-2, res-3, res-4 before and after it.

The question is whether multiplying by upsampled high-level features adds semantics to a low-level map or only removes noise
from it (refinement, a soft mask). Nothing here changes a model: hooks read what enters and leaves its embedding slot.

**Regions.** Void pixels within ``band`` pixels of a labelled one take its class; the rest stay out. An *edge* is where two
classes then meet. A cell of a map stands for a rectangle of the truth; it lies in the *band* if any pixel of it is within
``band`` pixels of an edge, else in the *interior*, and has the class of most of its labelled pixels, or none if less than half
of it is labelled. On a coarse map the band is therefore wide, and small objects have no interior.

**Numbers of one map**, each before and after (*energy*: L2 norm over the channels of a cell):

- energy_band, energy_interior: mean energy there, in the map's own unit. Compare before with after, never two models.
- energy_ratio: the one divided by the other. Above 1 the map answers more at borders than inside.
- contrast: mean step of the energy between neighbouring cells of different classes, divided by that between neighbours of one
  class. Rises if the map's own edges move to the truth's.
- roughness: mean step between neighbours of one class in the interior, divided by the mean energy there. Falls if noise (or
  texture) is removed.
- fisher_band, fisher_interior: variance between classes divided by variance within them, each summed over channels, over the
  cells of the region. Rises if classes move apart or the cells of a class together. Strong channels dominate it.
- class_share_band, class_share_interior: of each channel the share of its variance that lies between classes, averaged over
  channels. Unlike Fisher's ratio it does not see a mere rescaling of channels, which the next convolution could undo.

The last four are computed in each image (classes as this image shows them) and *pooled* over all images at once: only the
pooled ones ask that a class gives the same answer in every image, which is what "semantics" means.

**Numbers of the branch**, the factor of `product` and `gate` or the addend of `sum` and `concat`, (channels, cells):

- branch_band, branch_interior: its mean there.
- branch_channel: share of its variance between channel means. The next convolution could undo that.
- branch_mask: share between cell means. One soft mask for all channels could do that.
- branch_specific: the rest. Channels are weighted differently at different places, which no mask can do.
- branch_class: class_share of the branch over all labelled cells: how much of it depends on the class alone.

**What they cannot show.** That a change helps: the decoder may use or undo it; only the mIoU of paired runs speaks of that.
That SEB alone made it: the encoder was trained together with SEB, so its map "before" is not the baseline's; put a baseline's
run beside it. With few cells the ratios lean upwards (noise alone gives (K - 1) / (N - K) for K classes in N cells): compare
before with after on the same cells, not band with interior. Images of one run are no independent trainings: put several seeds
side by side. An average over channels says nothing of single ones: the pictures show those that change most.
"""
