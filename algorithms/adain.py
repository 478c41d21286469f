"""AdaIN: images take on the style of another site (Huang and Belongie, arXiv 1703.06868).

Every site shares the style of its images, and every image may take on that of another site: adaptive instance
normalisation, with a bank of styles in place of a style image.

    AdaIN(x) = sigma_s (x - mu(x)) / sigma(x) + mu_s                                                     (equation 8)
    mu_s    ~ N(mean_s[mu],    spread^2 var_s[mu])       over the images of a site s that is not the image's own
    sigma_s ~ N(mean_s[sigma], spread^2 var_s[sigma])

A bank of overall styles, one a site, is CCST's (arXiv 2210.00912); drawing around it, and doing so in the network's
early features, is StableFDG's (arXiv 2311.00227).

Shared: per stage and channel, mean and standard deviation over a site's images of each image's own mu and sigma: four
numbers a channel, 16 C bytes up and 16 C a site down. The default, encoder1 of plain-16 (C = 16), makes 256 bytes up
and 1024 down with four sites. Privacy: moments over at least ``min_images`` images, nothing of a single image. Secure
aggregation: no, the server keeps every site's style apart. Cost: two passes over one feature map a step, 1.05 times
FedAvg's time. Settings that matter: early stages only; ``p``.

Released code: CCST's takes unbiased variances, where the paper divides by H W.

Deviations: CCST restyles images once, before training, in the features of a pretrained VGG with a decoder; here no
pretrained network is needed, the bank follows the model from round to round and styles are a round old. Channels are
drawn independently. mu(x) and sigma(x) carry no gradient and count valid pixels only; what is not valid keeps its
values. The first round, having no bank, is FedAvg's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fedlight.plugins.style_bank import MomentBank


class AdaIN(MomentBank):
    """Restyles images with the feature statistics that other sites share.

    Args:
        p: Probability that an image is restyled; 0 gives FedAvg.
        stages: Where; "input" exchanges the statistics of the channels of the image itself, which does nothing for
            images that are standardised one by one.
        spread: How far styles are drawn around a site's mean style; 0 takes the mean style itself.
        min_images: A site that saw fewer different images in a round shares nothing.
    """

    example_independent = True

    def __init__(
        self, p: float = 0.5, stages: Sequence[str] = ("encoder1",), spread: float = 1.0, min_images: int = 5
    ) -> None:
        self.p = p
        self.stages = stages
        self.spread = spread
        self.min_images = min_images

    def put_on(self, x: Tensor, own: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        return self.put_on_style(x, own, self.drawn(others))
