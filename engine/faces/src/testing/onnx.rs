//! A model of a few bytes, made by the tests. The integration tests include this file too, so it uses
//! nothing else of the crate.

/// An ONNX file: the mean of each of three planes, times a matrix of `[3, dim]`.
///
/// Protocol Buffers by hand, because a field is a number, a length and bytes; the numbers are those of
/// `onnx.proto3`.
pub(crate) fn mean_colour_model(height: u64, width: u64, matrix: &[f32]) -> Vec<u8> {
    let dim = matrix.len() as u64 / 3;
    let node = |operator: &str, inputs: &[&str], output: &str| {
        let mut bytes = Vec::new();
        inputs
            .iter()
            .for_each(|input| field(&mut bytes, 1, input.as_bytes()));
        field(&mut bytes, 2, output.as_bytes());
        field(&mut bytes, 4, operator.as_bytes());
        bytes
    };
    let tensor_of = |name: &str, shape: &[u64]| {
        let (mut dimensions, mut tensor, mut kind, mut info) = (vec![], vec![], vec![], vec![]);
        for &size in shape {
            let mut dimension = vec![];
            number(&mut dimension, 1, size);
            field(&mut dimensions, 1, &dimension);
        }
        number(&mut tensor, 1, FLOAT);
        field(&mut tensor, 2, &dimensions);
        field(&mut kind, 1, &tensor);
        field(&mut info, 1, name.as_bytes());
        field(&mut info, 2, &kind);
        info
    };
    let mut weights = Vec::new();
    number(&mut weights, 1, 3);
    number(&mut weights, 1, dim);
    number(&mut weights, 2, FLOAT);
    field(&mut weights, 8, b"matrix");
    field(
        &mut weights,
        9,
        &matrix
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>(),
    );

    let mut graph = Vec::new();
    field(&mut graph, 1, &node("GlobalAveragePool", &["face"], "means"));
    field(&mut graph, 1, &node("Flatten", &["means"], "flat"));
    field(&mut graph, 1, &node("MatMul", &["flat", "matrix"], "features"));
    field(&mut graph, 2, b"mean colour");
    field(&mut graph, 5, &weights);
    field(&mut graph, 11, &tensor_of("face", &[1, 3, height, width]));
    field(&mut graph, 12, &tensor_of("features", &[1, dim]));

    let (mut opset, mut model) = (Vec::new(), Vec::new());
    number(&mut opset, 2, 9);
    number(&mut model, 1, 4);
    field(&mut model, 7, &graph);
    field(&mut model, 8, &opset);
    model
}

const FLOAT: u64 = 1;

fn number(bytes: &mut Vec<u8>, field: u64, value: u64) {
    varint(bytes, field << 3);
    varint(bytes, value);
}

fn field(bytes: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(bytes, field << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
