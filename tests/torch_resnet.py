"""torchvision's ResNet, of which torch alone is needed."""


def torch_resnet(torch, bottleneck, stage_blocks, num_classes):
    """torchvision's ResNet, written again: same structure and names of parameters."""
    t = torch.nn
    expansion = 4 if bottleneck else 1

    def conv(inputs, outputs, kernel, stride=1):
        return t.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    class Block(t.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            outputs = expansion * width
            # Channels, kernel and stride of each convolution.
            basic = [(width, 3, stride), (width, 3, 1)]
            layers = [(width, 1, 1), (width, 3, stride), (outputs, 1, 1)]
            self.layers = layers if bottleneck else basic
            channels = inputs
            for i, (out, kernel, step) in enumerate(self.layers, start=1):
                setattr(self, f"conv{i}", conv(channels, out, kernel, step))
                setattr(self, f"bn{i}", t.BatchNorm2d(out))
                channels = out
            self.downsample = None
            if stride != 1 or inputs != outputs:
                self.downsample = t.Sequential(
                    conv(inputs, outputs, 1, stride), t.BatchNorm2d(outputs)
                )

        def forward(self, x):
            y = x
            for i in range(1, len(self.layers) + 1):
                y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
                y = y.relu() if i < len(self.layers) else y
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class Net(t.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = conv(3, 64, 7, 2), t.BatchNorm2d(64)
            self.maxpool = t.MaxPool2d(3, 2, 1)
            channels = 64
            for i, num_blocks in enumerate(stage_blocks):
                blocks = []
                for j in range(num_blocks):
                    stride = 2 if i > 0 and j == 0 else 1
                    blocks.append(Block(channels, 64 * 2**i, stride))
                    channels = expansion * 64 * 2**i
                setattr(self, f"layer{i + 1}", t.Sequential(*blocks))
            self.fc = t.Linear(channels, num_classes)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    return Net().eval()
