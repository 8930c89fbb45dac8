
/// Makes the first of a thread's or subgroup's sums the last: drivers keep an array in registers only where no index is computed.
fn rotate(sums: ptr<function, Sums>) {
    let first = (*sums)[0];
    (*sums)[0] = (*sums)[1];
    (*sums)[1] = (*sums)[2];
    (*sums)[2] = (*sums)[3];
    (*sums)[3] = (*sums)[4];
    (*sums)[4] = (*sums)[5];
    (*sums)[5] = (*sums)[6];
    (*sums)[6] = (*sums)[7];
    (*sums)[7] = (*sums)[8];
    (*sums)[8] = (*sums)[9];
    (*sums)[9] = (*sums)[10];
    (*sums)[10] = (*sums)[11];
    (*sums)[11] = (*sums)[12];
    (*sums)[12] = (*sums)[13];
    (*sums)[13] = (*sums)[14];
    (*sums)[14] = (*sums)[15];
    (*sums)[15] = first;
}

