"""The names that batches, engine outputs, losses and loss weights share."""

from __future__ import annotations

from monai.utils import StrEnum

UPDATES = (  # the modules that SIFA updates in an iteration, in the order of the paper
    "target_generator",
    "target_discriminator",
    "segmenter",
    "source_decoder",
    "source_discriminator",
    "prediction_discriminator",
)


class SIFAKeys(StrEnum):
    """Images and labels of one iteration, each with the paper's symbol."""

    SOURCE_IMAGE = "source_image"  # x_s
    SOURCE_LABEL = "source_label"  # y_s
    TARGET_IMAGE = "target_image"  # x_t
    SOURCE_VIEW = "source_view"  # x_s with a random appearance
    TARGET_VIEW = "target_view"  # x_t with a random appearance, for self-training
    FAKE_TARGET = "fake_target"  # x_{s->t} = G_t(x_s)
    FAKE_SOURCE = "fake_source"  # x_{t->s} = U(E(x_t))
    RECONSTRUCTED_SOURCE = "reconstructed_source"  # x_{s->t->s} = U(E(G_t(x_s)))
    RECONSTRUCTED_TARGET = "reconstructed_target"  # x_{t->s->t} = G_t(U(E(x_t)))
    PRED = "pred"  # C(E(x_t)), logits
    LOSS = "loss"  # what E and C minimize
    DISCRIMINATOR_ACCURACY = "discriminator_accuracy"  # of the discriminator of features, from 0 to 1
    GATE_OPEN = "gate_open"  # 1 where features adapt in this iteration, else 0


class LossTerms(StrEnum):
    """The terms of the loss; each column of the weight matrix names the terms that a module minimizes."""

    SOURCE_CYCLE = "source_cycle"  # Eq. 2, first half: |U(E(G_t(x_s))) - x_s|
    TARGET_CYCLE = "target_cycle"  # Eq. 2, second half: |G_t(U(E(x_t))) - x_t|
    TARGET_ADVERSARIAL = "target_adversarial"  # Eq. 1: G_t(x_s) fools D_t
    SOURCE_ADVERSARIAL = "source_adversarial"  # U(E(x_t)) fools D_s
    AUXILIARY_ADVERSARIAL = "auxiliary_adversarial"  # Eq. 5 (FA-I): U(E(x_t)) passes for a reconstructed source
    PREDICTION_ADVERSARIAL = "prediction_adversarial"  # Eq. 4 (FA-P): C(E(x_t)) fools D_p
    SEGMENTATION = "segmentation"  # Eq. 3: cross-entropy + Dice of C(E(G_t(x_s))) against y_s
    RANDOM_APPEARANCE = "random_appearance"  # Eq. 3 for C(E(x_s with a random appearance)) against y_s
    SELF_TRAINING = "self_training"  # Eq. 3 for C(E(x_t with a random appearance)) against the weight average's labels
    TARGET_SEGMENTATION = "target_segmentation"  # Eq. 3 for C(E(x)) of the few target images that have labels
    FEATURE_ADVERSARIAL = "feature_adversarial"  # features of x_t fool a discriminator of domains
    SEMANTIC = "semantic"  # cross-entropy of C(E(G_t(x_s))) and y_s in the loss of G_t (CyCADA)
    MASK_ADVERSARIAL = "mask_adversarial"  # masks of x_t fool a critic or a discriminator of masks
    WITHIN_CLASS = "within_class"  # share of the intensity variance that classes leave unexplained (masks alone)
