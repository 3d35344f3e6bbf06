/*
 * The beginning of a program on Android, for a build without Android's own toolchain: bionic's C library is handed the
 * stack as the kernel left it, and calls main. Its loader has run all constructors by then, hence the empty lists.
 */
struct Structors {
    void (**preinit)(void), (**init)(void), (**fini)(void);
};

_Noreturn void __libc_init(void *stack, void (*)(void), int (*)(int, char **, char **), const struct Structors *);
int main(int argc, char **argv);

__attribute__((used)) _Noreturn void begin(void *stack) {
    static const struct Structors none;
    __libc_init(stack, 0, (int (*)(int, char **, char **))main, &none);
}

#if defined(__aarch64__)
__asm__(".globl _start\n.type _start, %function\n_start:\n\tmov x29, xzr\n\tmov x30, xzr\n\tmov x0, sp\n\tb begin\n");
#elif defined(__x86_64__)
__asm__(".globl _start\n.type _start, %function\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#else
#error "bionic without the NDK: arm64-v8a and x86_64 only"
#endif
